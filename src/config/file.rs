//! What the TOML may say: one struct per section, every key by name, nothing judged yet.

use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use serde::Deserialize;
use serde::de::value::Error;
use serde::de::{self, Deserializer, Visitor};
use toml::Spanned;

use super::value::{DomainName, FileMode, Leaf, Percent, Size};
use super::{
    Action, Addresses, BackendServer, Blind, Disabled, Endpoint, Facility, Greeting, ListenProtocol, LogTarget,
    MapKind, Mode, Tls, Unavailable, Verify, Watch, Wrapper,
};
use crate::verdict::Reply;

/// A key that may be left out.
pub type Key<T> = Option<Leaf<T>>;

/// Declares the structs, and with them the lists of the keys that they know.
macro_rules! sections {
    ($($(#[$doc:meta])* $name:ident { $($(#[$kdoc:meta])* $key:ident: $type:ty,)* })*) => { $(
        $(#[$doc])*
        #[derive(Debug, Default, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct $name { $($(#[$kdoc])* pub $key: $type,)* }
    )* };
}

sections! {
    /// The whole file.
    FileConfig {
        /// Whom to become after binding.
        user: Key<Option<String>>,
        /// Where the last good lists and the verdict cache are kept.
        state_dir: Key<Option<PathBuf>>,
        /// Where the process id is written.
        pid_file: Key<Option<PathBuf>>,
        /// The control socket.
        control: Key<Option<Endpoint>>,
        /// Further files.
        include: Key<Option<String>>,
        /// `[log]`
        log: Option<LogSection>,
        /// `[[listen]]`
        listen: Option<Vec<Spanned<ListenSection>>>,
        /// `[limits]`
        limits: Option<LimitsSection>,
        /// `[defaults]` of every source
        defaults: Option<DefaultsSection>,
        /// `[[source]]`
        source: Option<Vec<Spanned<SourceSection>>>,
        /// `[[domain]]`
        domain: Option<Vec<Spanned<DomainSection>>>,
        /// `[nexthops]`
        nexthops: Option<Spanned<NexthopsSection>>,
        /// `[[backend]]`
        backend: Option<Vec<Spanned<BackendSection>>>,
        /// `[cache]`
        cache: Option<CacheSection>,
        /// `[skip]`
        skip: Option<SkipSection>,
        /// `[harvest]`
        harvest: Option<HarvestSection>,
        /// `[[map]]`
        map: Option<Vec<Spanned<MapSection>>>,
    }

    /// `[log]`
    LogSection {
        /// Where to.
        target: Key<LogTarget>,
        /// Syslog facility.
        facility: Key<Facility>,
        /// How much.
        level: Key<super::LogFilter>,
        /// Whether addresses appear as they are.
        addresses: Key<Addresses>,
    }

    /// `[[listen]]`
    ListenSection {
        /// The endpoint.
        on: Key<Endpoint>,
        /// Permissions of a UNIX socket.
        mode: Key<FileMode>,
        /// Owner of a UNIX socket.
        owner: Key<String>,
        /// Group of a UNIX socket.
        group: Key<String>,
        /// The dialect.
        protocol: Key<ListenProtocol>,
        /// The map of requests that name none.
        default_map: Key<String>,
        /// Peers on TCP.
        allow: Key<Vec<IpNet>>,
    }

    /// `[limits]`
    LimitsSection {
        /// Sessions at once.
        sessions: Key<u32>,
        /// Sessions of one TCP peer.
        sessions_per_peer: Key<u32>,
        /// Longest request.
        request_bytes: Key<Size>,
        /// Longest line.
        line_bytes: Key<Size>,
        /// Most that waits for a peer to take it.
        output_bytes: Key<Size>,
        /// Requests of one session in one turn of the loop.
        requests_per_turn: Key<u32>,
        /// Connections that the kernel may hold for us.
        backlog: Key<u32>,
        /// Silence between requests.
        idle: Key<Duration>,
        /// From the first to the last byte of a request.
        request: Key<Duration>,
        /// From the request to its answer.
        answer: Key<Duration>,
        /// The same on the line protocol.
        answer_line: Key<Duration>,
        /// The same for milters.
        answer_milter: Key<Duration>,
        /// Time to answer what was asked when told to stop.
        stop: Key<Duration>,
    }

    /// `[defaults]`
    DefaultsSection {
        /// See [`super::Source`].
        max_shrink: Key<Percent>,
        /// See [`super::Source`].
        min_entries: Key<u32>,
        /// See [`super::Source`].
        max_age: Key<Option<Duration>>,
        /// See [`super::Source`].
        grace: Key<Duration>,
        /// See [`super::Source`].
        retry: Key<Duration>,
        /// See [`super::Source`].
        watch: Key<Watch>,
        /// See [`super::Source`].
        refresh: Key<Option<Duration>>,
        /// See [`super::Source`].
        timeout: Key<Duration>,
        /// See [`super::Source`].
        keep_versions: Key<u32>,
    }

    /// `[[source]]`
    SourceSection {
        /// Its name in messages and commands.
        name: Key<String>,
        /// A file, a folder or a pattern.
        path: Key<PathBuf>,
        /// A program and its arguments.
        command: Key<Vec<String>>,
        /// How it is written.
        format: Key<String>,
        /// Attached to bare local parts.
        domain: Key<Option<DomainName>>,
        /// The higher wins.
        priority: Key<i32>,
        /// See [`super::Source`].
        max_shrink: Key<Percent>,
        /// See [`super::Source`].
        min_entries: Key<u32>,
        /// See [`super::Source`].
        max_age: Key<Option<Duration>>,
        /// See [`super::Source`].
        grace: Key<Duration>,
        /// See [`super::Source`].
        retry: Key<Duration>,
        /// See [`super::Source`].
        watch: Key<Watch>,
        /// See [`super::Source`].
        refresh: Key<Option<Duration>>,
        /// See [`super::Source`].
        timeout: Key<Duration>,
        /// See [`super::Source`].
        keep_versions: Key<u32>,
        /// passwd: the lowest user id that gets mail.
        uid_min: Key<u32>,
        /// passwd: the login shells of those who get mail.
        shells: Key<Vec<String>>,
        /// What becomes of disabled accounts.
        disabled: Key<Disabled>,
    }

    /// `[[domain]]`
    DomainSection {
        /// The domains.
        names: Key<Vec<DomainName>>,
        /// A file that lists more of them.
        file: Key<Option<PathBuf>>,
        /// Whether their subdomains are ours as well.
        subdomains: Key<bool>,
        /// The domain whose recipients they have.
        same_as: Key<Option<DomainName>>,
        /// Who knows.
        verify: Key<Verify>,
        /// The backend that is asked.
        backend: Key<Option<String>>,
        /// Whether to refuse.
        mode: Key<Mode>,
        /// Delimiters of the detail.
        subaddress: Key<String>,
        /// Whether local parts differ by case.
        case_sensitive: Key<bool>,
        /// Local parts that always exist.
        always: Key<Vec<String>>,
        /// Wrappers that are taken off.
        unwrap: Key<Vec<Wrapper>>,
        /// The reply for absent.
        absent: Key<Reply>,
        /// The reply for unknown.
        unknown: Key<Reply>,
        /// What holds while the backend is down.
        unavailable: Key<Unavailable>,
        /// Whether `[skip]` applies.
        skip: Key<bool>,
    }

    /// `[nexthops]`
    NexthopsSection {
        /// A mailertable or transport file.
        file: Key<PathBuf>,
        /// Whether its domains are ours.
        domains: Key<bool>,
    }

    /// `[[backend]]`
    BackendSection {
        /// Its name.
        name: Key<String>,
        /// Tried in order.
        servers: Key<Vec<BackendServer>>,
        /// Asked for every domain.
        all_domains: Key<bool>,
        /// Our name in the greeting.
        helo: Key<Option<String>>,
        /// The greeting.
        greeting: Key<Greeting>,
        /// MAIL FROM.
        sender: Key<Vec<String>>,
        /// STARTTLS.
        tls: Key<Tls>,
        /// Patience with the connection.
        connect_timeout: Key<Duration>,
        /// Patience with each reply.
        reply_timeout: Key<Duration>,
        /// Patience with the whole.
        total_timeout: Key<Duration>,
        /// Sessions at once.
        sessions: Key<u32>,
        /// Recipients in one session.
        recipients_per_session: Key<u32>,
        /// Questions a second.
        probes_per_second: Key<u32>,
        /// How long an unused session is kept.
        idle: Key<Duration>,
        /// What holds while it is down.
        unavailable: Key<Unavailable>,
        /// What holds when it takes everything.
        blind: Key<Blind>,
        /// How often a random address is asked.
        catch_all_test: Key<String>,
        /// An address that must be accepted.
        known_good: Key<Option<String>>,
        /// Further codes that mean absent.
        absent_codes: Key<Vec<String>>,
    }

    /// `[cache]`
    CacheSection {
        /// Life of exists.
        valid: Key<Duration>,
        /// When to ask again.
        valid_refresh: Key<Duration>,
        /// Life of absent.
        absent: Key<Duration>,
        /// When to ask again.
        absent_refresh: Key<Duration>,
        /// Life of an expired exists.
        stale: Key<Duration>,
        /// How many.
        entries: Key<u32>,
        /// Where it is kept, in `state_dir`.
        file: Key<Option<PathBuf>>,
    }

    /// `[skip]`
    SkipSection {
        /// Addresses and networks.
        clients: Key<Vec<IpNet>>,
        /// Names of sendmail daemons.
        daemons: Key<Vec<String>>,
        /// Authenticated senders.
        authenticated: Key<bool>,
        /// Locally submitted mail.
        local: Key<bool>,
        /// Discard instead of refusing.
        bitbucket: Key<bool>,
    }

    /// `[harvest]`
    HarvestSection {
        /// How far back is counted.
        window: Key<Duration>,
        /// How many absent ones.
        absent: Key<u32>,
        /// Which share of all.
        ratio: Key<Percent>,
        /// What is done.
        action: Key<Action>,
    }

    /// `[[map]]`
    MapSection {
        /// The first word of a request.
        name: Key<String>,
        /// What it answers.
        kind: Key<MapKind>,
        /// The file of a table.
        path: Key<PathBuf>,
        /// The value of what exists.
        value: Key<String>,
    }
}

/// How a section is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// `[name]`
    Table,
    /// `[[name]]`, any number of times
    Array,
}

/// A section and the keys that it knows.
pub(super) struct Section {
    pub(super) name: &'static str,
    pub(super) shape: Shape,
    pub(super) keys: &'static [&'static str],
}

impl Section {
    /// As it is written in the file; what stands before every section is "the top of the file".
    pub(super) fn title(&self) -> String {
        match self.shape {
            Shape::Table if self.name.is_empty() => "the top of the file".to_owned(),
            Shape::Table => format!("[{}]", self.name),
            Shape::Array => format!("[[{}]]", self.name),
        }
    }

    /// Where a key of it stands.
    pub(super) fn within(&self) -> String {
        format!("{} {}", if self.name.is_empty() { "at" } else { "in" }, self.title())
    }
}

/// Every section; the first is what stands before all of them.
pub(super) fn sections() -> Vec<Section> {
    fn section<T: for<'de> Deserialize<'de>>(name: &'static str, shape: Shape) -> Section {
        Section { name, shape, keys: fields::<T>() }
    }
    vec![
        section::<FileConfig>("", Shape::Table),
        section::<LogSection>("log", Shape::Table),
        section::<ListenSection>("listen", Shape::Array),
        section::<LimitsSection>("limits", Shape::Table),
        section::<DefaultsSection>("defaults", Shape::Table),
        section::<SourceSection>("source", Shape::Array),
        section::<DomainSection>("domain", Shape::Array),
        section::<NexthopsSection>("nexthops", Shape::Table),
        section::<BackendSection>("backend", Shape::Array),
        section::<CacheSection>("cache", Shape::Table),
        section::<SkipSection>("skip", Shape::Table),
        section::<HarvestSection>("harvest", Shape::Table),
        section::<MapSection>("map", Shape::Array),
    ]
}

/// Every key of a configuration, as `section.key`, or `key` at the top of the file: for documents and their tests.
pub fn keys() -> Vec<String> {
    let mut keys = Vec::new();
    let sections = sections();
    for section in &sections {
        for key in section.keys {
            let is_section = section.name.is_empty() && sections.iter().any(|s| s.name == *key);
            if !is_section {
                keys.push(if section.name.is_empty() { (*key).to_owned() } else { format!("{}.{key}", section.name) });
            }
        }
    }
    keys
}

/// The names of the fields of a struct, asked of its `Deserialize`: so no second list of keys has to be kept.
fn fields<T: for<'de> Deserialize<'de>>() -> &'static [&'static str] {
    struct Keys<'a>(&'a mut &'static [&'static str]);
    impl<'de> Deserializer<'de> for Keys<'_> {
        type Error = Error;
        fn deserialize_struct<V: Visitor<'de>>(
            self,
            _: &'static str,
            fields: &'static [&'static str],
            _: V,
        ) -> Result<V::Value, Error> {
            *self.0 = fields;
            Err(de::Error::custom(""))
        }
        fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
            Err(de::Error::custom(""))
        }
        serde::forward_to_deserialize_any! {
            bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
            newtype_struct seq tuple tuple_struct map enum identifier ignored_any
        }
    }
    let mut fields: &'static [&'static str] = &[];
    let _ = T::deserialize(Keys(&mut fields)); // always an error: only the names are wanted
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_section_is_listed_with_its_keys() {
        let sections = sections();
        for section in &sections {
            assert!(section.keys.len() >= 2, "{}", section.name);
        }
        let top = sections[0].keys;
        assert!(top.contains(&"user") && top.contains(&"listen"));
        for section in &sections[1..] {
            assert!(top.contains(&section.name), "{}", section.name);
        }
        assert_eq!(top.len(), 5 + sections.len() - 1, "five single keys, and the sections");
    }
}
