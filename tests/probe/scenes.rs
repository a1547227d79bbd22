//! The scheduler in situations with a known end.

use std::sync::Arc;
use std::time::Duration;

use rcptmapd::config::{self, BackendServer, Blind, Endpoint, Unavailable};
use rcptmapd::map::HashKey;
use rcptmapd::probe::cache::Cache;
use rcptmapd::probe::hop::HopConfig;
use rcptmapd::probe::outcome::Settings;
use rcptmapd::probe::route::NextHop;
use rcptmapd::probe::schedule::{Basis, Limits};
use rcptmapd::verdict::Verdict;

use crate::world::{CANARY, Event, Manner, World, mailbox};

const LONG: Duration = Duration::from_secs(1_000_000_000);
const PATIENCE: Duration = Duration::from_secs(20);

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// One next hop of one server.
fn world(manners: Vec<(Duration, Manner)>, change: impl FnOnce(&mut HopConfig)) -> World {
    let mut world = World::new(7, std::env::var_os("SHOW").is_some());
    let server = world.server(manners, true);
    let mut config = world.config(vec![server]);
    change(&mut config);
    world.add_hop(config);
    world
}

fn answer(world: &World, number: usize) -> (Verdict, Basis) {
    world.asked[number].answer.expect("answered")
}

/// Asks and waits for the answer.
fn ask(world: &mut World, key: &str) -> (Verdict, Basis) {
    let number = world.put(0, key, PATIENCE, None);
    world.run_for(PATIENCE);
    answer(world, number)
}

#[test]
fn a_thousand_at_once_need_twenty_sessions_and_two_seconds() {
    let mut world = world(vec![], |_| {});
    for n in 0..1000 {
        world.put(0, &format!("u{n}@d0.example"), PATIENCE, None);
    }
    world.run();
    let last = world.asked.iter().filter_map(|asked| asked.answered).max().expect("answers") - world.start;
    assert!(world.sessions <= 20, "{} sessions", world.sessions);
    assert!(last <= seconds(2), "{last:?}");
    assert_eq!(world.rcpt_times[&0].len(), 1000);
    assert_eq!(answer(&world, 3), (Verdict::Exists, Basis::Probe));
    assert_eq!(answer(&world, 4), (Verdict::Absent, Basis::Probe));
}

#[test]
fn one_probe_for_all_who_ask_the_same() {
    let mut world = world(vec![], |_| {});
    for _ in 0..100 {
        world.put(0, "u4@d0.example", PATIENCE, None);
    }
    world.run_for(seconds(1));
    (0..100).for_each(|n| assert_eq!(answer(&world, n), (Verdict::Absent, Basis::Probe)));
    assert_eq!(ask(&mut world, "u4@d0.example"), (Verdict::Absent, Basis::Cache));
    assert_eq!(world.rcpt_times[&0].len(), 1);
    world.run();
}

#[test]
fn a_session_serves_again_and_again_until_it_is_idle() {
    let mut world = world(vec![], |_| {});
    // Each group ends with RSET, and Exim takes ten of them; the session begins with one.
    for n in 0..18 {
        world.put(0, &format!("u{n}@d0.example"), PATIENCE, None);
        world.run_for(seconds(5));
    }
    assert_eq!(world.sessions, 2);
    world.run_for(seconds(15));
    assert!(world.conns.is_empty());
    world.run();
}

#[test]
fn a_dead_next_hop_is_left_alone_for_longer_and_longer() {
    let mut world = world(vec![(LONG, Manner::NoConnection)], |_| {});
    for n in 0..36_000 {
        world.put(0, &format!("u{n}@d0.example"), PATIENCE, None);
        world.run_for(Duration::from_millis(100));
    }
    // An hour: 1, 2, 4 ... 256 seconds, then every 5 minutes, give or take a quarter.
    assert!((15..30).contains(&world.sessions), "{} sessions", world.sessions);
    assert!(
        world
            .asked
            .iter()
            .filter(|asked| asked.answers > 0)
            .all(|asked| { asked.answer == Some((Verdict::Unknown, Basis::Unavailable)) })
    );
    let status = world.scheduler.status(world.now).next().expect("one next hop");
    assert!(status.down.is_some());
    assert_eq!(status.last_error.map(|e| e.to_string()), Some("connect: connection refused".into()));
    assert_eq!(world.log.len(), world.sessions as usize, "{:?}", world.log);
    world.run();
}

#[test]
fn a_next_hop_that_comes_back_is_found_by_one_trial() {
    let mut world = world(vec![(seconds(30), Manner::Unreachable)], |_| {});
    for n in 0..100 {
        world.put(0, &format!("u{n}@d0.example"), PATIENCE, None);
        world.run_for(seconds(1));
    }
    assert_eq!(answer(&world, 99), (Verdict::Exists, Basis::Probe));
    assert_eq!(answer(&world, 20), (Verdict::Unknown, Basis::Unavailable));
    assert!(world.log.iter().any(|line| line == "hop0 answers again"), "{:?}", world.log);
    assert!(world.sessions < 20, "{} sessions", world.sessions);
    world.run();
}

#[test]
fn what_is_unavailable_is_accepted_where_so_configured() {
    let mut world = world(vec![(LONG, Manner::Busy(0))], |config| config.unavailable = Unavailable::Accept);
    assert_eq!(ask(&mut world, "u4@d0.example"), (Verdict::Exists, Basis::Unavailable));
    let number = world.put(0, "u4@d0.example", PATIENCE, Some(Unavailable::Tempfail));
    world.run_for(seconds(5));
    assert_eq!(answer(&world, number), (Verdict::Unknown, Basis::Unavailable));
    world.run();
}

#[test]
fn a_stale_yes_serves_while_the_next_hop_is_down() {
    let mut world = world(vec![(seconds(100), Manner::Good), (LONG, Manner::NoConnection)], |_| {});
    assert_eq!(ask(&mut world, "u3@d0.example"), (Verdict::Exists, Basis::Probe));
    assert_eq!(ask(&mut world, "u4@d0.example"), (Verdict::Absent, Basis::Probe));
    world.run_for(seconds(2 * 86_400));
    assert_eq!(ask(&mut world, "u3@d0.example"), (Verdict::Exists, Basis::Stale));
    assert_eq!(ask(&mut world, "u4@d0.example"), (Verdict::Unknown, Basis::Unavailable));
    world.run_for(seconds(31 * 86_400));
    assert_eq!(ask(&mut world, "u3@d0.example"), (Verdict::Unknown, Basis::Unavailable));
    world.run();
}

#[test]
fn what_is_used_is_asked_again_before_it_expires() {
    let mut world = world(vec![], |_| {});
    assert_eq!(ask(&mut world, "u3@d0.example"), (Verdict::Exists, Basis::Probe));
    for hours in 1..100 {
        world.run_for(seconds(3600));
        assert_eq!(ask(&mut world, "u3@d0.example"), (Verdict::Exists, Basis::Cache), "after {hours} hours");
    }
    let asked = world.rcpt_times[&0].len();
    assert!((8..=10).contains(&asked), "asked {asked} times");
    world.run();
}

#[test]
fn a_failed_refresh_overwrites_nothing_and_is_not_repeated_at_once() {
    let mut world = world(vec![(seconds(60), Manner::Good), (LONG, Manner::Policy)], |_| {});
    assert_eq!(ask(&mut world, "u3@d0.example"), (Verdict::Exists, Basis::Probe));
    world.run_for(seconds(13 * 3600));
    for _ in 0..100 {
        world.put(0, "u3@d0.example", PATIENCE, None);
        world.run_for(seconds(1));
    }
    assert!(world.asked.iter().skip(1).all(|asked| asked.answer == Some((Verdict::Exists, Basis::Cache))));
    assert!(world.rcpt_times[&0].len() <= 4, "{} times", world.rcpt_times[&0].len());
    world.run();
}

#[test]
fn the_deadline_counts_and_the_late_answer_is_kept() {
    let mut world = world(vec![(LONG, Manner::Slow)], |_| {});
    let number = world.put(0, "u3@d0.example", seconds(1), None);
    world.run_for(seconds(10));
    assert_eq!(answer(&world, number), (Verdict::Unknown, Basis::Nothing));
    assert_eq!(world.asked[number].answered, Some(world.start + seconds(1)));
    assert_eq!(ask(&mut world, "u3@d0.example"), (Verdict::Exists, Basis::Cache));
    world.run();
}

#[test]
fn who_waits_comes_before_what_nobody_waits_for() {
    let mut world = world(vec![], |config| config.probes_per_second = 2);
    let left: Vec<usize> = (0..20).map(|n| world.put(0, &format!("u{n}@d0.example"), PATIENCE, None)).collect();
    left.into_iter().for_each(|number| world.cancel(number));
    let number = world.put(0, "u33@d0.example", seconds(4), None);
    world.run_for(seconds(4));
    assert_eq!(answer(&world, number), (Verdict::Exists, Basis::Probe));
    world.run();
    assert_eq!(world.rcpt_times[&0].len(), 21);
}

#[test]
fn the_second_server_serves_when_the_first_is_down() {
    let mut world = World::new(7, false);
    let servers = vec![world.server(vec![(seconds(60), Manner::NoConnection)], true), world.server(vec![], true)];
    let config = world.config(servers);
    world.add_hop(config);
    for n in 0..30 {
        assert_ne!(ask(&mut world, &format!("u{n}@d0.example")).0, Verdict::Unknown);
    }
    let status = world.scheduler.status(world.now).next().expect("one next hop");
    assert_eq!(status.stats.unknown, 0);
    world.run();
}

#[test]
fn an_answer_that_is_on_its_way_is_none_to_the_next_question_of_the_same_ticket() {
    use rcptmapd::probe::schedule::{Command, Question, Ticket};
    let mut world = world(vec![], |_| {});
    let (ticket, hop, start) = (Ticket(1), world.hops[0].0, world.now);
    let question = |key: &'static str| Question { key: key.as_bytes(), hop, unavailable: None };
    let deliveries = |world: &mut World| {
        let commands = std::iter::from_fn(|| world.scheduler.poll_command());
        commands.filter(|command| matches!(command, Command::Deliver(..))).count()
    };
    assert!(world.scheduler.ask(&question("u3@d0.example"), ticket, start + seconds(1), start).is_none());
    world.scheduler.handle_timeout(start + seconds(1));
    assert!(world.scheduler.ask(&question("u4@d0.example"), ticket, start + seconds(9), start + seconds(1)).is_none());
    assert_eq!(deliveries(&mut world), 0);
    world.scheduler.handle_timeout(start + seconds(9));
    world.scheduler.cancel(ticket);
    assert_eq!(deliveries(&mut world), 0, "nobody waits any more");
}

#[test]
fn every_address_of_a_name_is_tried() {
    let mut world = World::new(7, false);
    let spec = world.server(vec![], true);
    let Endpoint::Tcp(addr) = spec.at else { panic!() };
    let at = Endpoint::Host("hub.example".into(), addr.port());
    let config = world.config(vec![BackendServer { lmtp: false, at }]);
    world.add_hop(config);
    let number = world.put(0, "u3@d0.example", PATIENCE, None);
    let now = world.now;
    let mut tried = Vec::new();
    while let Some(command) = world.scheduler.poll_command() {
        use rcptmapd::probe::outcome::Hangup;
        use rcptmapd::probe::schedule::{Command, Target};
        match command {
            Command::Resolve(name) => {
                let addresses = vec!["2001:db8::1".parse().expect("good"), [192, 0, 2, 7].into()];
                world.scheduler.handle_resolved(&name, Ok(addresses), seconds(60), now);
            }
            Command::Connect { link, to: Target::Tcp(to) } => {
                tried.push(to.ip().to_string());
                world.scheduler.handle_close(link, &Hangup::Error("refused".into()), now);
            }
            Command::Deliver(_, answer) => {
                assert_eq!(answer.basis, Basis::Unavailable);
                world.asked[number].answers += 1;
            }
            _ => {}
        }
    }
    assert_eq!(tried, ["2001:db8::1", "192.0.2.7"]);
    assert_eq!(world.asked[number].answers, 1);
}

#[test]
fn a_next_hop_that_takes_everything_is_found_out() {
    for (blind, verdict) in [(Blind::Exists, Verdict::Exists), (Blind::Tempfail, Verdict::Unknown)] {
        let mut world = world(vec![(LONG, Manner::AcceptAll)], |config| {
            config.catch_all_test = Some(seconds(86_400));
            config.blind = blind;
        });
        for n in 0..5 {
            assert_eq!(ask(&mut world, &format!("u{n}@d0.example")).0, verdict);
        }
        assert_eq!(world.rcpt_times[&0].len(), 6, "one test for all of them");
        let status = world.scheduler.status(world.now).next().expect("one next hop");
        assert_eq!(status.blind, [Box::from(&b"d0.example"[..])]);
        world.run();
    }
}

#[test]
fn guesses_cost_no_test() {
    let mut world = world(vec![], |config| config.catch_all_test = Some(seconds(86_400)));
    assert_eq!(ask(&mut world, "u4@d0.example").0, Verdict::Absent);
    assert_eq!(world.rcpt_times[&0].len(), 1);
    assert_eq!(ask(&mut world, "u3@d0.example").0, Verdict::Exists);
    assert_eq!(ask(&mut world, "u6@d0.example").0, Verdict::Exists);
    assert_eq!(world.rcpt_times[&0].len(), 4);
    world.run();
}

#[test]
fn refusals_are_not_believed_while_the_canary_is_refused() {
    let manners = vec![(seconds(100), Manner::RefuseAll), (seconds(200), Manner::Good), (LONG, Manner::RefuseAll)];
    let mut world = world(manners, |config| config.known_good = Some(mailbox(CANARY[0])));
    assert_eq!(ask(&mut world, "u4@d0.example"), (Verdict::Unknown, Basis::Nothing));
    assert!(world.scheduler.status(world.now).next().expect("one").canary_refused);
    world.run_for(seconds(100));
    assert_eq!(ask(&mut world, "u4@d0.example"), (Verdict::Absent, Basis::Probe));
    world.run_for(seconds(100));
    assert_eq!(ask(&mut world, "u5@d0.example"), (Verdict::Unknown, Basis::Nothing));
    assert_eq!(world.log.len(), 3, "{:?}", world.log);
    world.run();
}

/// A next hop of two servers; sessions don't stay.
fn two_servers(first: Vec<(Duration, Manner)>, second: Vec<(Duration, Manner)>, change: fn(&mut HopConfig)) -> World {
    let mut world = World::new(7, std::env::var_os("SHOW").is_some());
    let servers = vec![world.server(first, true), world.server(second, true)];
    world.pools.push(servers.clone());
    let mut config = world.config(servers);
    config.dialogue = Arc::new(Settings { idle: seconds(0), ..(*config.dialogue).clone() });
    change(&mut config);
    world.add_hop(config);
    world
}

/// Asks and waits for a second.
fn ask_now(world: &mut World, key: &str) -> (Verdict, Basis) {
    let number = world.put(0, key, PATIENCE, None);
    world.run_for(seconds(1));
    answer(world, number)
}

#[test]
fn the_canary_of_one_server_vouches_for_no_other() {
    let first = vec![(seconds(10), Manner::Good), (LONG, Manner::NoConnection)];
    let mut world = two_servers(first, vec![(LONG, Manner::RefuseAll)], |config| {
        config.known_good = Some(mailbox(CANARY[0]));
    });
    world.run_for(seconds(8));
    assert_eq!(ask_now(&mut world, "u4@d0.example"), (Verdict::Absent, Basis::Probe));
    world.run_for(seconds(2));
    assert_eq!(ask_now(&mut world, "u3@d0.example"), (Verdict::Unknown, Basis::Nothing));
    // What the first one said counts: it took its canary.
    assert_eq!(ask_now(&mut world, "u4@d0.example"), (Verdict::Absent, Basis::Cache));
    world.run();
}

#[test]
fn a_reload_to_another_server_needs_another_canary() {
    let mut world = two_servers(vec![], vec![(LONG, Manner::RefuseAll)], |config| {
        config.known_good = Some(mailbox(CANARY[0]));
        config.servers = NextHop::new(config.servers.servers()[..1].to_vec()).expect("one");
    });
    assert_eq!(ask_now(&mut world, "u4@d0.example"), (Verdict::Absent, Basis::Probe));
    world.use_servers(0, &[1]);
    assert_eq!(ask_now(&mut world, "u3@d0.example"), (Verdict::Unknown, Basis::Nothing));
    assert_eq!(ask_now(&mut world, "u4@d0.example"), (Verdict::Unknown, Basis::Nothing));
    world.run();
}

#[test]
fn what_was_refused_is_asked_again_once_the_canary_is_refused() {
    let manners = vec![(seconds(5), Manner::Good), (seconds(50), Manner::RefuseAll), (LONG, Manner::Good)];
    let mut world = two_servers(manners, vec![], |config| {
        config.known_good = Some(mailbox(CANARY[0]));
        config.servers = NextHop::new(config.servers.servers()[..1].to_vec()).expect("one");
    });
    world.run_for(seconds(3));
    assert_eq!(ask_now(&mut world, "u4@d0.example"), (Verdict::Absent, Basis::Probe));
    world.run_for(seconds(2));
    // Its canary was taken just now: that can't be known yet.
    assert_eq!(ask_now(&mut world, "u3@d0.example"), (Verdict::Absent, Basis::Probe));
    assert_eq!(ask_now(&mut world, "u3@d0.example"), (Verdict::Absent, Basis::Cache));
    world.run_for(seconds(30));
    assert_eq!(ask_now(&mut world, "u6@d0.example"), (Verdict::Unknown, Basis::Nothing));
    assert_eq!(ask_now(&mut world, "u3@d0.example"), (Verdict::Unknown, Basis::Nothing));
    let file = world.scheduler.save(world.now);
    assert!(!String::from_utf8_lossy(&file).contains(" absent"), "what is not believed is not kept");
    world.run_for(seconds(20));
    assert_eq!(ask_now(&mut world, "u4@d0.example"), (Verdict::Absent, Basis::Probe));
    assert_eq!(ask_now(&mut world, "u3@d0.example"), (Verdict::Exists, Basis::Probe));
    assert_eq!(ask_now(&mut world, "u7@d0.example"), (Verdict::Absent, Basis::Probe));
    assert_eq!(ask_now(&mut world, "u7@d0.example"), (Verdict::Absent, Basis::Cache));
    world.run();
}

#[test]
fn a_canary_that_is_to_come_later_is_no_refusal() {
    let manners = vec![(seconds(5), Manner::Good), (LONG, Manner::Greylist)];
    let mut world = two_servers(manners, vec![], |config| config.known_good = Some(mailbox(CANARY[0])));
    assert_eq!(ask_now(&mut world, "u4@d0.example"), (Verdict::Absent, Basis::Probe));
    world.run_for(seconds(60));
    world.greylisted.insert("u5@d0.example".into());
    assert_eq!(ask_now(&mut world, "u5@d0.example"), (Verdict::Unknown, Basis::Nothing));
    assert_eq!(ask_now(&mut world, "u4@d0.example"), (Verdict::Absent, Basis::Cache));
    world.run();
}

#[test]
fn what_a_server_says_that_is_none_any_more_counts_for_nothing() {
    let mut world = two_servers(vec![(LONG, Manner::Slow)], vec![], |config| {
        config.servers = NextHop::new(config.servers.servers()[..1].to_vec()).expect("one");
    });
    world.servers[0].users = 1;
    // Until the first one has nothing to say but the answer.
    let number = world.put(0, "u3@d0.example", PATIENCE, None);
    while world.rcpt_times.is_empty() {
        world.run_for(Duration::from_millis(10));
    }
    world.use_servers(0, &[1]);
    world.run_for(seconds(10));
    assert_eq!(answer(&world, number), (Verdict::Exists, Basis::Probe));
    assert_eq!(ask_now(&mut world, "u4@d0.example"), (Verdict::Absent, Basis::Probe));
    world.use_servers(0, &[0]);
    world.run_for(seconds(10));
    assert_eq!(ask(&mut world, "u4@d0.example"), (Verdict::Exists, Basis::Probe));
    world.run();
}

#[test]
fn who_takes_everything_is_not_whom_the_other_server_proves() {
    let first = vec![(seconds(10), Manner::Good), (LONG, Manner::NoConnection)];
    let mut world = two_servers(first, vec![(LONG, Manner::AcceptAll)], |config| {
        config.catch_all_test = Some(seconds(86_400));
        config.blind = Blind::Tempfail;
    });
    world.run_for(seconds(8));
    assert_eq!(ask_now(&mut world, "u3@d0.example"), (Verdict::Exists, Basis::Probe));
    world.run_for(seconds(2));
    assert_eq!(ask_now(&mut world, "u7@d0.example"), (Verdict::Unknown, Basis::Nothing));
    world.run();
}

#[test]
fn that_everything_is_taken_holds_until_something_is_refused() {
    let manners = vec![(seconds(10), Manner::AcceptAll), (seconds(60), Manner::Greylist), (LONG, Manner::Good)];
    let mut world = two_servers(manners, vec![], |config| {
        config.catch_all_test = Some(seconds(10));
        config.blind = Blind::Tempfail;
    });
    assert_eq!(ask_now(&mut world, "u3@d0.example"), (Verdict::Unknown, Basis::Nothing));
    world.run_for(seconds(30));
    world.greylisted.insert("u3@d0.example".into());
    assert_eq!(ask_now(&mut world, "u3@d0.example"), (Verdict::Unknown, Basis::Nothing));
    world.run_for(seconds(60));
    assert_eq!(ask_now(&mut world, "u3@d0.example"), (Verdict::Exists, Basis::Probe));
    world.run();
}

#[test]
fn what_was_taken_by_who_takes_everything_is_asked_again_when_that_changes() {
    let manners = vec![(seconds(30), Manner::AcceptAll), (LONG, Manner::Good)];
    let mut world = two_servers(manners, vec![], |config| config.catch_all_test = Some(seconds(20)));
    assert_eq!(ask_now(&mut world, "u4@d0.example"), (Verdict::Exists, Basis::Probe));
    assert_eq!(ask_now(&mut world, "u4@d0.example"), (Verdict::Exists, Basis::Cache));
    world.hops[0].1.blind = Blind::Tempfail;
    world.happen(Event::Reload(0));
    assert_eq!(ask_now(&mut world, "u4@d0.example"), (Verdict::Unknown, Basis::Nothing));
    world.hops[0].1.blind = Blind::Exists;
    world.happen(Event::Reload(0));
    assert_eq!(ask_now(&mut world, "u4@d0.example"), (Verdict::Exists, Basis::Cache));
    world.run_for(seconds(30));
    assert_eq!(ask_now(&mut world, "u3@d0.example"), (Verdict::Exists, Basis::Probe));
    assert_eq!(ask_now(&mut world, "u4@d0.example"), (Verdict::Absent, Basis::Probe));
    world.run();
}

#[test]
fn a_tarpit_teaches_how_many_refusals_are_free() {
    let mut world = world(vec![(LONG, Manner::Tarpit)], |_| {});
    let last = (0..30).map(|n| world.put(0, &format!("u{}@d0.example", 3 * n + 1), PATIENCE, None)).last();
    world.run();
    assert!(world.asked.iter().all(|asked| asked.answer == Some((Verdict::Absent, Basis::Probe))));
    let took = world.asked[last.expect("some")].answered.expect("answered") - world.start;
    assert!(took < seconds(10), "{took:?}");
    assert_eq!(world.scheduler.status(world.now).next().expect("one").limit, Some(2));
}

#[test]
fn a_session_that_is_closed_unused_says_nothing_about_the_server() {
    // The second session is opened for the second question, which the first one has answered before that is greeted.
    let mut world = World::new(7, false);
    let spec = world.server(vec![(LONG, Manner::IdleHangup)], false);
    let config = world.config(vec![spec]);
    world.add_hop(config);
    assert_eq!(ask(&mut world, "u2@d0.example").0, Verdict::Absent);
    world.put(0, "u1@d0.example", PATIENCE, None);
    world.run_for(Duration::from_millis(75));
    let later = world.put(0, "u3@d0.example", PATIENCE, None);
    world.run_for(seconds(8));
    assert_eq!(answer(&world, later), (Verdict::Exists, Basis::Probe));
    let status = world.scheduler.status(world.now).next().expect("one next hop");
    assert!(world.conns.is_empty() && world.sessions == 3);
    assert_eq!((status.stats.failures, status.is_down, world.log.as_slice()), (0, false, [].as_slice()));
    world.run();
}

#[test]
fn who_hangs_up_after_refusals_teaches_how_many_are_free_but_a_restart_does_not() {
    let mut world = world(vec![(LONG, Manner::Strict)], |_| {});
    for n in 0..30 {
        world.put(0, &format!("u{}@d0.example", 3 * n + 1), PATIENCE, None);
    }
    world.run();
    assert!(world.asked.iter().all(|asked| asked.answer == Some((Verdict::Absent, Basis::Probe))));
    assert_eq!(world.scheduler.status(world.now).next().expect("one").limit, Some(3));

    let mut world = World::new(7, false);
    let spec = world.server(vec![], false);
    let config = world.config(vec![spec]);
    world.add_hop(config);
    for n in 0..80 {
        world.put(0, &format!("u{}@d0.example", 3 * n + 1), PATIENCE, None);
    }
    world.run_for(seconds(1));
    let links: Vec<_> = world.conns.keys().copied().collect();
    assert!(links.len() > 1);
    links.into_iter().for_each(|link| world.hang_up(link, false));
    world.run();
    assert!(world.asked.iter().all(|asked| asked.answer == Some((Verdict::Absent, Basis::Probe))));
    assert_eq!(world.scheduler.status(world.now).next().expect("one").limit, None);
}

#[test]
fn a_limit_of_connections_is_found_and_kept() {
    for pipelining in [false, true] {
        let mut world = World::new(7, std::env::var_os("SHOW").is_some());
        let spec = world.server(vec![(LONG, Manner::Crowded(2))], pipelining);
        let mut config = world.config(vec![spec]);
        config.unavailable = Unavailable::Accept;
        config.dialogue = Settings { recipients: 10, ..(*config.dialogue).clone() }.into();
        world.add_hop(config);
        for n in 0..200 {
            world.put(0, &format!("u{n}@d0.example"), seconds(60), None);
            world.run_for(Duration::from_millis(10));
        }
        world.run_for(seconds(58));
        assert!(world.asked.iter().all(|asked| asked.answer.is_some_and(|answer| answer.1 == Basis::Probe)));
        let status = world.scheduler.status(world.now).next().expect("one next hop");
        assert!(!status.is_down && world.turned_away < 10, "{} turned away: {:?}", world.turned_away, world.log);
        assert!(world.log.iter().all(|line| !line.contains("left alone")), "{:?}", world.log);
        let told = world.log.iter().filter(|line| line.contains("turned a session away beside")).count();
        assert_eq!(told > 0, world.turned_away > 0, "{:?}", world.log);
        assert!(pipelining || told > 0);
        world.run();
    }
}

#[test]
fn a_laborious_server_is_asked_in_small_groups_over_all_its_sessions() {
    for ahead in [Duration::from_millis(300), Duration::ZERO] {
        let mut world = world(vec![(LONG, Manner::Laborious)], |_| {});
        world.put(0, "u99@d0.example", PATIENCE, None);
        world.run_for(ahead);
        for n in 0..30 {
            world.put(0, &format!("u{n}@d0.example"), PATIENCE, None);
        }
        world.run();
        assert!(world.asked.iter().all(|asked| asked.answer.is_some_and(|answer| answer.1 == Basis::Probe)));
        let last = world.asked.iter().filter_map(|asked| asked.answered).max().expect("answers") - world.start;
        // Five at a time are 3.6 s.
        assert!(last <= seconds(8), "{last:?}");
        assert_eq!(world.rcpt_times[&0].len(), 31, "nobody is asked for twice");
        assert_eq!(world.scheduler.status(world.now).next().expect("one").stats.failures, 0);
    }
}

#[test]
fn a_poisoned_question_harms_no_other() {
    // The tenth command of each session is never answered, be it what proves the group, or the third RCPT one by one.
    let mut world = world(vec![(LONG, Manner::Gap(10))], |config| config.sessions = 1);
    for n in 0..6 {
        world.put(0, &format!("u{n}@d0.example"), PATIENCE, None);
    }
    world.run();
    let known = world.asked.iter().filter(|asked| asked.answer.is_some_and(|a| a.1 == Basis::Probe)).count();
    assert!(known >= 4, "{known}");
}

#[test]
fn a_reply_that_comes_twice_refuses_nobody_else() {
    // Whichever it is, and however late the last one: nobody gets his neighbour's refusal.
    for (at, pipelining, terse) in (1..9).flat_map(|at| [(at, true, false), (at, false, false), (at, true, true)]) {
        let mut world = World::new(7, false);
        let spec = world.server(vec![(LONG, Manner::Twice(at))], pipelining);
        world.servers[0].terse = terse;
        let mut config = world.config(vec![spec]);
        config.sessions = 1;
        world.add_hop(config);
        for n in [1, 3, 2, 6, 9, 4, 12, 7, 15] {
            world.put(0, &format!("u{n}@d0.example"), PATIENCE, None);
        }
        world.run_for(seconds(1));
        world.put(0, "u18@d0.example", PATIENCE, None);
        world.run();
    }
}

#[test]
fn at_its_limits_it_answers_at_once() {
    let mut world = world(vec![(LONG, Manner::Slow)], |config| {
        config.sessions = 1;
        config.probes_per_second = 1;
    });
    world.scheduler.set_limits(Limits { queue: 3, background: 1, tickets: 5 });
    let numbers: Vec<usize> = (0..8).map(|n| world.put(0, &format!("u{n}@d0.example"), seconds(2), None)).collect();
    let at_once = numbers.iter().filter(|&&n| world.asked[n].answered == Some(world.now)).count();
    assert_eq!(at_once, 5);
    let joined: Vec<usize> = (0..4).map(|_| world.put(0, "u0@d0.example", seconds(2), None)).collect();
    assert_eq!(joined.iter().filter(|&&n| world.asked[n].answered.is_some()).count(), 2);
    world.run();
}

#[test]
fn what_is_saved_is_there_after_a_restart() {
    let build = || {
        world(vec![(seconds(40), Manner::AcceptAll), (LONG, Manner::Tarpit)], |config| {
            config.catch_all_test = Some(seconds(86_400));
        })
    };
    let mut first = build();
    assert_eq!(ask(&mut first, "u3@d0.example").0, Verdict::Exists);
    first.run_for(seconds(60));
    for n in 0..40 {
        first.put(0, &format!("u{}@d1.example", 3 * n + 1), PATIENCE, None);
    }
    first.run();
    let file = first.scheduler.save(first.now);
    let mut second = build();
    second.run_for(first.now - first.start);
    let now = second.now;
    let summary = second.scheduler.load(&file, |key, by| by.filter(|_| !key.ends_with(b"@d2.example")), now);
    assert!(summary.complete && summary.damaged == 0 && summary.taken >= 8, "{summary:?}");
    let status = second.scheduler.status(now).next().expect("one");
    assert_eq!((status.limit, status.blind.len()), (Some(2), 1));
    second.accepted = first.accepted;
    second.refused = first.refused;
    assert_eq!(ask(&mut second, "u3@d0.example"), (Verdict::Exists, Basis::Cache));
    assert_eq!(ask(&mut second, "u1@d1.example"), (Verdict::Absent, Basis::Cache));
    second.run();
}

#[test]
fn life_times_can_be_raised_for_what_is_there() {
    let mut world = world(vec![(seconds(60), Manner::Good), (LONG, Manner::NoConnection)], |_| {});
    assert_eq!(ask(&mut world, "u4@d0.example").0, Verdict::Absent);
    world.run_for(seconds(3600));
    world.lives.absent = seconds(86_400);
    world.scheduler.cache().set_lives(world.lives.clone());
    assert_eq!(ask(&mut world, "u4@d0.example"), (Verdict::Absent, Basis::Cache));
    world.run();
}

#[test]
fn a_clock_that_is_set_makes_nothing_younger() {
    let mut world = world(vec![], |_| {});
    for by in [-86_400, 86_400, -40 * 86_400, 4_000_000_000] {
        assert_eq!(ask(&mut world, "u4@d0.example").0, Verdict::Absent);
        world.set_calendar(by);
        world.run_for(seconds(3600));
        assert_eq!(ask(&mut world, "u4@d0.example"), (Verdict::Absent, Basis::Probe), "after {by} seconds");
    }
    world.set_calendar(-4_000_000_000);
    assert_eq!(ask(&mut world, "u4@d0.example").0, Verdict::Absent);
    // A machine that slept.
    world.set_calendar(3600);
    assert_eq!(ask(&mut world, "u4@d0.example"), (Verdict::Absent, Basis::Probe));
    world.run();
}

#[test]
fn a_clock_that_was_set_back_before_a_restart_makes_nothing_younger() {
    let mut first = world(vec![], |_| {});
    assert_eq!(ask(&mut first, "u4@d0.example").0, Verdict::Absent);
    assert_eq!(ask(&mut first, "u3@d0.example").0, Verdict::Exists);
    let file = first.scheduler.save(first.now);
    let mut second = world(vec![], |_| {});
    second.set_calendar(-86_400);
    // The next process begins with the calendar as it is.
    let calendar = second.scheduler.clock().in_calendar(second.scheduler.epoch(second.now));
    second.scheduler = rcptmapd::probe::schedule::Scheduler::new(
        Cache::new(config::Cache::default(), HashKey::new()),
        Limits::default(),
        HashKey::new(),
        1,
        second.now,
        calendar,
    );
    let config = second.hops[0].1.clone();
    second.scheduler.set_hop(config, second.now);
    second.scheduler.load(&file, |_, by| by, second.now);
    second.accepted = first.accepted;
    assert_eq!(ask(&mut second, "u4@d0.example"), (Verdict::Absent, Basis::Probe));
    assert_eq!(ask(&mut second, "u3@d0.example"), (Verdict::Exists, Basis::Cache));
    second.run();
}

#[test]
fn a_next_hop_that_is_removed_leaves_nobody_waiting() {
    let mut world = world(vec![(LONG, Manner::Slow)], |_| {});
    let number = world.put(0, "u3@d0.example", PATIENCE, None);
    world.run_for(seconds(1));
    let now = world.now;
    world.scheduler.retain_hops(|_| false, now);
    world.run();
    assert_eq!(answer(&world, number), (Verdict::Unknown, Basis::Nothing));
    assert_eq!(world.scheduler.hop("hop0"), None);
}

#[test]
fn a_table_of_thirty_thousand_next_hops_comes_and_goes() {
    let mut world = world(vec![(LONG, Manner::Slow)], |_| {});
    let number = world.put(0, "u3@d0.example", PATIENCE, None);
    let (now, template) = (world.now, world.hops[0].1.clone());
    let name = |n: usize| format!("next{n}");
    let ids: Vec<_> = (0..30_000)
        .map(|n| world.scheduler.set_hop(HopConfig { name: name(n).into(), ..template.clone() }, now))
        .collect();
    assert!((0..30_000).all(|n| world.scheduler.hop(&name(n)) == Some(ids[n])));
    world.scheduler.retain_hops(|name| name.ends_with('7') || name == "hop0", now);
    assert!((0..30_000).all(|n| world.scheduler.hop(&name(n)) == (n % 10 == 7).then_some(ids[n])));
    let back = world.scheduler.set_hop(HopConfig { name: name(1).into(), ..template }, now);
    assert_eq!(world.scheduler.hop(&name(1)), Some(back));
    assert!(!ids.contains(&back));
    world.run();
    assert_eq!(answer(&world, number), (Verdict::Exists, Basis::Probe));
}

#[test]
fn a_reload_ends_sessions_politely_and_loses_no_question() {
    let mut world = world(vec![], |_| {});
    for n in 0..100 {
        world.put(0, &format!("u{n}@d0.example"), PATIENCE, None);
    }
    (1..20).for_each(|n| world.at(Duration::from_millis(20 * n), Event::Reload(0)));
    world.run();
    assert!(world.asked.iter().all(|asked| asked.answer.is_some_and(|answer| answer.1 == Basis::Probe)));
}
