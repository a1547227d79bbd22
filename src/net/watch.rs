//! What a loop keeps an eye on beside its answers: who is not checked, who guesses names, and what became of recipients.

use std::net::IpAddr;
use std::time::Instant;

use crate::config::{Action, Config};
use crate::harvest::{Edge, Harvest, Who};
use crate::logging;
use crate::map::HashKey;
use crate::resolve::Directory;
use crate::skip::{Asker, Origin, Reason, Rules};
use crate::tally::{Fate, Tallies};
use crate::verdict::{Reply, Verdict};

/// The watch of one loop.
pub struct Watch {
    /// Who is not checked.
    pub rules: Rules,
    /// Discard in the place of refuse.
    pub bitbucket: bool,
    /// Who guesses; `None`: nobody wants to know, and nothing is spent on it.
    pub harvest: Option<Harvest>,
    /// What became of recipients.
    pub tallies: Tallies,
    tempfail: Reply,
    reject: Reply,
    disconnect: Reply,
}

/// Who asks, as far as it matters for a decision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Whom {
    /// Why it is not checked.
    pub skipped: Option<Reason>,
    /// The client of the MTA.
    pub client: Option<IpAddr>,
}

/// What a client gets that has tripped `[harvest]`, in the place of what it would have got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act<'a> {
    /// Try again later.
    Tempfail(&'a Reply),
    /// A refusal; only of recipients that don't exist.
    Reject(&'a Reply),
    /// The end of the SMTP session, and try again later.
    Disconnect(&'a Reply),
}

impl Watch {
    /// A watch without a configuration.
    pub fn new(now: Instant) -> Watch {
        let reply = |code, status, text| Reply::new(code, status, text).unwrap_or_else(|_| Reply::unknown());
        Watch {
            rules: Rules::default(),
            bitbucket: false,
            harvest: None,
            tallies: Tallies::new(now),
            tempfail: reply(451, "4.7.1", "Too many unknown recipients, try again later"),
            reject: reply(550, "5.7.1", "Too many unknown recipients"),
            disconnect: reply(421, "4.7.0", "Too many unknown recipients, closing connection"),
        }
    }

    /// Takes over what a configuration says. Who was seen guessing is forgotten only when the rule is another one.
    pub fn configure(&mut self, config: &Config, now: Instant) {
        self.rules = Rules::new(&config.skip);
        self.bitbucket = config.skip.bitbucket;
        if self.bitbucket {
            log::warn!(
                "skip.bitbucket is on: a message with an unknown recipient is taken and dropped, for its other \
                 recipients, too, and nobody is told. Mail gets lost; without it the sender hears of a typing error"
            );
        }
        let wanted = Some(&config.harvest).filter(|harvest| harvest.on);
        if self.harvest.as_ref().map(Harvest::settings) != wanted {
            self.harvest = wanted.map(|settings| Harvest::new(settings, HashKey::new(), now));
        }
    }

    /// Once a turn of the loop, before anything is counted.
    #[inline]
    pub fn turn(&mut self, now: Instant) {
        self.tallies.turn(now);
        if let Some(harvest) = &mut self.harvest {
            harvest.turn(now);
        }
    }

    /// What a protocol tells about who asks, in short.
    pub fn whom(&self, asker: &Asker<'_>) -> Whom {
        let client = match asker.origin {
            Origin::Ip(address) => Some(address),
            Origin::Local | Origin::Unknown => None,
        };
        Whom { skipped: self.rules.reason(asker), client }
    }

    /// Counts a verdict for the client and the domain. Beside the domain's place: what the client gets in its place.
    ///
    /// Nobody is refused for good who exists: then "reject" is "try again later", too, since a guesser would else learn
    /// who does.
    pub fn judge(
        &mut self,
        client: Option<IpAddr>,
        domain: Option<u32>,
        verdict: Verdict,
        recipient: &[u8],
        directory: &Directory,
    ) -> (Option<usize>, Option<Act<'_>>) {
        let place = self.tallies.place(domain, directory);
        let Some(harvest) = &mut self.harvest else { return (place, None) };
        // Who is not ours is none of our business: the MTA refuses to relay, or has its reasons.
        if !harvest.count(client, place, verdict, recipient) || verdict == Verdict::Foreign {
            return (place, None);
        }
        let act = match (harvest.action(), verdict) {
            (Action::None, _) => return (place, None),
            (Action::Tempfail, _) => Act::Tempfail(&self.tempfail),
            (Action::Disconnect, _) => Act::Disconnect(&self.disconnect),
            (Action::Reject, Verdict::Absent) => Act::Reject(&self.reject),
            (Action::Reject, _) => Act::Tempfail(&self.tempfail),
        };
        harvest.acted += 1;
        (place, Some(act))
    }

    /// Tells of edges, each once. `contrib/fail2ban` reads these lines.
    pub fn tell(&mut self) {
        let Some(harvest) = &mut self.harvest else { return };
        while let Some(edge) = harvest.poll_edge() {
            let within = match harvest.settings().window.as_secs() {
                seconds if seconds.is_multiple_of(60) && seconds > 0 => format!("within {} min", seconds / 60),
                seconds => format!("within {seconds} s"),
            };
            match edge {
                Edge { who: Who::Client(client), tripped: true, counts } => log::warn!(
                    "harvest: client {client} guesses recipients: {} of {} don't exist, {within}; action {}",
                    counts.absent,
                    counts.asked,
                    harvest.action()
                ),
                Edge { who: Who::Client(client), tripped: false, counts } => log::info!(
                    "harvest: client {client} no longer guesses recipients: {} of {} don't exist, {within}",
                    counts.absent,
                    counts.asked
                ),
                Edge { who: Who::Domain(place), tripped, counts } => {
                    let name = self.tallies.domain(place).unwrap_or(b"(others)");
                    let how = if tripped { "is" } else { "is no longer" };
                    log::warn!(
                        "harvest: domain {} {how} guessed at: {} of {} recipients don't exist, {within}",
                        logging::escape(name),
                        counts.absent,
                        counts.asked
                    );
                }
            }
        }
    }
}

/// What becomes of a recipient when nothing comes between.
#[inline]
pub fn fate(verdict: Verdict) -> Fate {
    match verdict {
        Verdict::Exists => Fate::Accepted,
        Verdict::Absent => Fate::Refused,
        Verdict::Unknown => Fate::Deferred,
        Verdict::Foreign => Fate::Foreign,
    }
}

/// The recipient of a key of the access map.
pub fn without_tag(key: &[u8]) -> &[u8] {
    match key.split_at_checked(3) {
        Some((tag, address)) if tag.eq_ignore_ascii_case(b"to:") => address,
        _ => key,
    }
}
