//! The machine among servers that say anything at all.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use rcptmapd::probe::classify::Judgement;
use rcptmapd::probe::machine::Machine;
use rcptmapd::probe::outcome::{Hangup, JobId, Outcome};

/// What a server may do next.
fn act() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => Just(b"250 ok\r\n".to_vec()),
        2 => Just(b"220 hello\r\n".to_vec()),
        2 => Just(b"250-x\r\n250 PIPELINING\r\n".to_vec()),
        2 => Just(b"550 5.1.1 no\r\n".to_vec()),
        1 => Just(b"452 4.5.3 too many\r\n".to_vec()),
        1 => Just(b"421 bye\r\n".to_vec()),
        1 => Just(b"354 go\r\n".to_vec()),
        1 => Just(b"25".to_vec()),
        1 => proptest::collection::vec(any::<u8>(), 0..20),
        1 => Just(Vec::new()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]
    /// Whatever comes, every question is answered or given back exactly once, nobody is absent for whom no RCPT was
    /// sent, and the session ends in the end.
    #[test]
    fn every_question_comes_back_once(acts in proptest::collection::vec((act(), 0u64..4000), 0..24), senders in 1usize..3) {
        let mut settings = crate::settings();
        settings.senders = vec![None; senders];
        let mut now = std::time::Instant::now();
        let mut machine = Machine::new(Arc::new(settings), crate::START, now);
        let mut back = vec![0; 5];
        let mut rcpts = Vec::new();
        let mut over = false;
        for id in 0..5 {
            machine.ask(JobId(id), crate::mailbox(&format!("u{id}@x.example")), true, now);
        }
        machine.handle_connected(now);
        let mut pull = |machine: &mut Machine| {
            let mut out = Vec::new();
            machine.poll_transmit(&mut out);
            rcpts.extend(String::from_utf8(out).expect("UTF-8").lines().filter(|l| l.starts_with("RCPT")).map(str::to_owned));
            while let Some(outcome) = machine.poll_outcome() {
                match outcome {
                    Outcome::Answer(id, finding) => {
                        back[id.0 as usize] += 1;
                        if matches!(finding.judgement, Judgement::Absent(_) | Judgement::Exists { .. }) {
                            assert!(rcpts.contains(&format!("RCPT TO:<u{}@x.example>", id.0)));
                        }
                    }
                    Outcome::Closed(closed) => {
                        over = true;
                        closed.in_flight.iter().chain(&closed.untouched).for_each(|id| back[id.0 as usize] += 1);
                    }
                    _ => {}
                }
            }
        };
        for (bytes, pause) in acts {
            pull(&mut machine);
            now += Duration::from_millis(pause);
            machine.handle_timeout(now);
            if bytes.is_empty() {
                machine.handle_close(&Hangup::Closed, now);
            } else {
                machine.handle_input(&bytes, now);
            }
        }
        for _ in 0..50 {
            pull(&mut machine);
            let Some(due) = machine.poll_timeout() else { break };
            now = now.max(due);
            machine.handle_timeout(now);
        }
        pull(&mut machine);
        prop_assert!(over, "it never ends: {machine:?}");
        prop_assert_eq!(back, vec![1; 5]);
    }
}
