//! Who is not checked: `[skip]`, for the protocols that tell who the client is (milter, policy).
//!
//! Pure: rules and a client in, a reason out. Whether a domain wants nothing of it (`skip = false`) is the caller's to
//! look up, and only when there is a reason.
//!
//! - **Local** is mail that this host submits: a client without an address (`sendmail -bs`, a UNIX socket), and this
//!   host's own loopback addresses, 127.0.0.1 and ::1, since sendmail's and Postfix's local submission come from there.
//!   Where a proxy on this host speaks for the world, `local = false` is right.
//! - **Daemons** are sendmail's names of ports (`{daemon_name}`, Postfix `milter_macro_daemon_name`). `MSA` is implied
//!   only while none is set, as scam-backscatter has it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use crate::config;

/// The daemon that is left alone when the configuration names none.
pub const IMPLIED_DAEMON: &str = "MSA";

/// Where the client of an MTA is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Origin {
    /// There.
    Ip(IpAddr),
    /// On this host, without an address.
    Local,
    /// The protocol doesn't tell.
    #[default]
    Unknown,
}

/// What an MTA tells about who sends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asker<'a> {
    /// Where the client is.
    pub origin: Origin,
    /// The MTA's name for the port.
    pub daemon: Option<&'a [u8]>,
    /// The client has authenticated.
    pub authenticated: bool,
}

/// Why somebody is not checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The client's address is listed.
    Client,
    /// The port's name is listed.
    Daemon,
    /// The client has authenticated.
    Authenticated,
    /// The mail comes from this host.
    Local,
}

impl Reason {
    /// Every reason, in the order of the counters.
    pub const ALL: [Reason; 4] = [Reason::Client, Reason::Daemon, Reason::Authenticated, Reason::Local];

    /// The word for people and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Reason::Client => "client",
            Reason::Daemon => "daemon",
            Reason::Authenticated => "authenticated",
            Reason::Local => "local",
        }
    }
}

/// The rules.
#[derive(Clone, Debug)]
pub struct Rules {
    clients: Vec<IpNet>,
    daemons: Vec<String>,
    authenticated: bool,
    local: bool,
}

impl Default for Rules {
    fn default() -> Rules {
        Rules::new(&config::Skip::default())
    }
}

impl Rules {
    /// What the configuration says.
    pub fn new(skip: &config::Skip) -> Rules {
        Rules {
            clients: skip.clients.iter().copied().map(canonical).collect(),
            daemons: skip.daemons.clone().unwrap_or_else(|| vec![IMPLIED_DAEMON.to_owned()]),
            authenticated: skip.authenticated,
            local: skip.local,
        }
    }

    /// Why this client is not checked; `None`: it is.
    pub fn reason(&self, asker: &Asker<'_>) -> Option<Reason> {
        if self.authenticated && asker.authenticated {
            return Some(Reason::Authenticated);
        }
        if let Some(name) = asker.daemon
            && self.daemons.iter().any(|daemon| daemon.as_bytes() == name)
        {
            return Some(Reason::Daemon);
        }
        match asker.origin {
            Origin::Ip(address) => {
                let address = address.to_canonical();
                if self.clients.iter().any(|net| net.contains(&address)) {
                    return Some(Reason::Client);
                }
                (self.local && is_own(address)).then_some(Reason::Local)
            }
            Origin::Local => self.local.then_some(Reason::Local),
            Origin::Unknown => None,
        }
    }
}

/// The client as a text says it: with sendmail's `IPv6:`, in brackets, mapped into IPv6; anything else is unknown.
pub fn client(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?;
    let text = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let text = match text.get(..5) {
        Some(tag) if tag.eq_ignore_ascii_case("IPv6:") => &text[5..],
        _ => text,
    };
    text.parse::<IpAddr>().ok().map(|address| address.to_canonical())
}

fn is_own(address: IpAddr) -> bool {
    address == IpAddr::V4(Ipv4Addr::LOCALHOST) || address == IpAddr::V6(Ipv6Addr::LOCALHOST)
}

/// `::ffff:192.0.2.0/120` is written for `192.0.2.0/24`: clients are compared in their canonical form.
fn canonical(net: IpNet) -> IpNet {
    if let IpNet::V6(v6) = net
        && let Some(v4) = v6.addr().to_ipv4_mapped()
        && let Some(length) = v6.prefix_len().checked_sub(96)
        && let Ok(net) = IpNet::new(IpAddr::V4(v4), length)
    {
        return net;
    }
    net
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(address: &str) -> Asker<'static> {
        Asker { origin: Origin::Ip(address.parse().expect("an address")), ..Asker::default() }
    }

    fn rules(clients: &[&str], daemons: Option<&[&str]>) -> Rules {
        Rules::new(&config::Skip {
            clients: clients.iter().map(|net| net.parse().expect("a network")).collect(),
            daemons: daemons.map(|names| names.iter().map(|&name| name.to_owned()).collect()),
            ..config::Skip::default()
        })
    }

    #[test]
    fn clients_are_skipped_by_network_of_either_kind() {
        let rules = rules(&["192.0.2.32/28", "2001:db8::/32", "::ffff:198.51.100.0/120", "203.0.113.7/32"], None);
        for address in ["192.0.2.32", "192.0.2.47", "::ffff:192.0.2.33", "2001:db8::9", "198.51.100.255", "203.0.113.7"]
        {
            assert_eq!(rules.reason(&from(address)), Some(Reason::Client), "{address}");
        }
        for address in ["192.0.2.31", "192.0.2.48", "2001:db9::9", "::ffff:198.51.101.1", "127.0.0.9"] {
            assert_eq!(rules.reason(&from(address)), None, "{address}");
        }
        assert_eq!(super::Rules::default().reason(&Asker::default()), None);
    }

    #[test]
    fn the_submission_port_is_implied_only_while_no_daemon_is_set() {
        let named = |name: &'static str| Asker { daemon: Some(name.as_bytes()), ..from("192.0.2.9") };
        assert_eq!(rules(&[], None).reason(&named("MSA")), Some(Reason::Daemon));
        assert_eq!(rules(&[], None).reason(&named("MTA")), None);
        assert_eq!(rules(&[], None).reason(&named("MSA-v6")), None);
        let own = rules(&[], Some(&["MSA-v6", "Inside"]));
        assert_eq!(own.reason(&named("MSA")), None);
        assert_eq!(own.reason(&named("Inside")), Some(Reason::Daemon));
        assert_eq!(rules(&[], Some(&[])).reason(&named("MSA")), None);
    }

    #[test]
    fn who_has_authenticated_and_who_is_local() {
        let authenticated = Asker { authenticated: true, ..from("192.0.2.9") };
        let local = Asker { origin: Origin::Local, ..Asker::default() };
        let on = Rules::default();
        assert_eq!(on.reason(&authenticated), Some(Reason::Authenticated));
        assert_eq!(on.reason(&local), Some(Reason::Local));
        for address in ["127.0.0.1", "::1", "::ffff:127.0.0.1"] {
            assert_eq!(on.reason(&from(address)), Some(Reason::Local), "{address}");
        }
        let off = Rules::new(&config::Skip { authenticated: false, local: false, ..config::Skip::default() });
        for asker in [authenticated, local, from("127.0.0.1")] {
            assert_eq!(off.reason(&asker), None);
        }
    }

    #[test]
    fn addresses_are_read_as_mail_servers_write_them() {
        let read = |text: &str| client(text.as_bytes()).map(|address| address.to_string());
        assert_eq!(read("192.0.2.9").as_deref(), Some("192.0.2.9"));
        assert_eq!(read("[192.0.2.9]").as_deref(), Some("192.0.2.9"));
        assert_eq!(read("IPv6:2001:db8::9").as_deref(), Some("2001:db8::9"));
        assert_eq!(read("ipv6:::FFFF:192.0.2.9").as_deref(), Some("192.0.2.9"));
        for text in ["", "unknown", "0", "192.0.2", "192.0.2.9:25", "localhost", "\u{fc}"] {
            assert_eq!(read(text), None, "{text}");
        }
        assert_eq!(client(b"\xff"), None);
    }
}
