//! The snapshot against a naive model of the look-up, on random directories and addresses; and the one law: what is not
//! known is never absent.

#[path = "model/generate.rs"]
mod generate;
#[path = "model/naive.rs"]
mod naive;

use std::sync::Arc;

use naive::{Directory, Line, List, Naive, Says, Subject};
use proptest::prelude::*;
use rcptmapd::map::{
    Builder, Content, DomainGroup, Domains, Entry, Grant, HashKey, Item, Key, Scratch, Snapshot, Source,
};
use rcptmapd::verdict::Verdict;

fn item(line: &Line) -> Item<'_> {
    let key = match &line.subject {
        Subject::Recipient(local, domain) => Key::Recipient { local, domain },
        Subject::AnyDomain(local) => Key::AnyDomain { local },
        Subject::Detail { local, domain, required } => Key::Detail { local, domain, required: *required },
        Subject::Prefix(prefix, domain) => Key::Prefix { prefix, domain },
        Subject::CatchAll(domain) => Key::CatchAll { domain },
        Subject::Subdomains(domain) => Key::Subdomains { domain },
        Subject::Domain(domain) => Key::Domain { domain },
    };
    let grant = match &line.says {
        Says::Yes(value) => Grant::Accept { value },
        Says::As(domain, value) => Grant::Follow { domain, value },
        Says::No(reply) => Grant::Refuse(reply.clone()),
    };
    Item { key, grant }
}

fn says(entry: &Entry) -> Says {
    match entry {
        Entry::Accept { value } => Says::Yes(value.to_vec()),
        Entry::Follow { domain, value } => Says::As(domain.to_vec(), value.to_vec()),
        Entry::Refuse(reply) => Says::No(reply.clone()),
        Entry::Unknown => panic!("no line of the model is unclear"),
    }
}

/// The snapshot of a directory, and for each line of each list whether it was taken.
fn snapshot(directory: &Directory) -> (Snapshot, Vec<Vec<bool>>) {
    let key = HashKey::with_seeds(1, 2, 3, 4);
    let sensitive: Domains =
        directory.case_sensitive().into_iter().map(|name| name.into_bytes().into_boxed_slice()).collect();
    let mut taken = Vec::new();
    let mut sources = Vec::new();
    for list in &directory.lists {
        let mut fit = Vec::new();
        let content: Option<Arc<Content>> = list.lines.as_ref().map(|lines| {
            let mut builder = Builder::new(key.clone(), true, sensitive.clone());
            fit = lines.iter().map(|line| builder.add(&item(line)).is_ok()).collect();
            Arc::new(builder.finish(|_| {}))
        });
        taken.push(fit);
        sources.push(Source::new("list", list.priority, content));
    }
    let groups = directory
        .groups
        .iter()
        .map(|group| DomainGroup {
            names: group.names.iter().map(|name| name.as_bytes().into()).collect(),
            policy: group.policy.clone(),
        })
        .collect();
    (Snapshot::new(key, sources, groups, directory.groups_complete, directory.implied.clone()), taken)
}

fn ask(snapshot: &Snapshot, address: &[u8]) -> naive::Answer {
    let mut scratch = Scratch::default();
    let found = snapshot.lookup(address, &mut scratch, &mut ());
    naive::Answer {
        verdict: found.verdict,
        enforced: found.enforced,
        step: found.step,
        decided_by: found.hit.map(|hit| (says(hit.entry), hit.source)),
        policy: found.policy.cloned(),
        asked: found.asked.map(|key| snapshot.asked(key)).map(|asked| {
            let domain = String::from_utf8_lossy(asked.domain).into_owned();
            (asked.local.to_vec(), domain, asked.policy.backend.as_deref().map(str::to_owned))
        }),
    }
}

fn verdict(snapshot: &Snapshot, address: &[u8]) -> Verdict {
    ask(snapshot, address).enforced
}

/// The same directory without a single refusal.
fn without_refusals(mut directory: Directory) -> Directory {
    for list in &mut directory.lists {
        if let Some(lines) = &mut list.lines {
            lines.retain(|line| !matches!(line.says, Says::No(_)));
        }
    }
    directory
}

fn without_renames(directory: &mut Directory) {
    for lines in directory.lists.iter_mut().flat_map(|list| &mut list.lines) {
        lines.retain(|line| !matches!(line.says, Says::As(..)));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, max_shrink_iters: 4096, ..ProptestConfig::with_cases(512) })]

    #[test]
    fn the_snapshot_agrees_with_the_naive_model((directory, addresses) in generate::case()) {
        let (snapshot, taken) = snapshot(&directory);
        let (naive, fit) = Naive::new(&directory);
        prop_assert_eq!(taken, fit, "which lines can be taken");
        for address in &addresses {
            prop_assert_eq!(ask(&snapshot, &address.0), naive.ask(&address.0), "{:?}", address);
        }
    }

    /// Whatever a source that was never read may say: who is absent without it is absent with it.
    #[test]
    fn absent_without_a_source_is_absent_with_it((directory, addresses) in generate::case()) {
        let (whole, _) = snapshot(&directory);
        for away in 0..directory.lists.len() {
            let mut without = directory.clone();
            without.lists[away].lines = None;
            let (without, _) = snapshot(&without);
            for address in &addresses {
                let before = verdict(&without, &address.0);
                if before == Verdict::Absent || (before == Verdict::Foreign && !directory.groups.is_empty()) {
                    prop_assert_eq!(verdict(&whole, &address.0), before, "{:?}", address);
                }
            }
        }
    }

    /// While a source was never read only an entry of its own makes a recipient absent, or what no list can change.
    #[test]
    fn with_a_source_missing_nobody_is_absent_by_silence((mut directory, addresses) in generate::case()) {
        directory.lists.push(List { priority: 0, lines: None });
        let (snapshot, _) = snapshot(&directory);
        for address in &addresses {
            let answer = ask(&snapshot, &address.0);
            let refused = matches!(answer.decided_by, Some((Says::No(_), _)));
            let odd = answer.step == rcptmapd::map::Step::Parse;
            prop_assert!(answer.enforced != Verdict::Absent || refused || odd, "{answer:?} {address:?}");
        }
    }

    /// One more entry that accepts takes nobody away.
    #[test]
    fn accepting_one_more_makes_nobody_absent(
        (directory, addresses) in generate::case(),
        line in generate::line(),
        new_list: bool,
        priority in 0..3,
    ) {
        let mut directory = without_refusals(directory);
        // Who is at the target of a catch-all counts only once that is a domain of ours.
        without_renames(&mut directory);
        // Without declared domains a new name makes a domain ours, and so a foreign address an absent one, rightly.
        let line = Line { says: Says::Yes(Vec::new()), ..line };
        let mut more = directory.clone();
        match more.lists.iter_mut().find_map(|list| list.lines.as_mut()) {
            Some(lines) if !new_list => lines.insert(0, line),
            _ => more.lists.push(List { priority, lines: Some(vec![line]) }),
        }
        let ((less, _), (more, _)) = (snapshot(&directory), snapshot(&more));
        for address in &addresses {
            if verdict(&less, &address.0) == Verdict::Exists {
                prop_assert_eq!(verdict(&more, &address.0), Verdict::Exists, "{:?}", address);
            }
        }
    }

    /// Whom a main domain has, or a backend that is asked about its recipients, its alias has, too.
    #[test]
    fn an_alias_refuses_nobody_whom_its_main_domain_has((directory, addresses) in generate::case()) {
        let mut directory = without_refusals(directory);
        // What a domain's own catch-all says of it comes first.
        without_renames(&mut directory);
        let (snapshot, _) = snapshot(&directory);
        for group in &directory.groups {
            let Some(main) = group.policy.same_as.as_deref() else { continue };
            for (name, address) in group.names.iter().flat_map(|name| addresses.iter().map(move |at| (name, at))) {
                let Some(at) = address.0.iter().rposition(|&byte| byte == b'@') else { continue };
                // A main domain below its own alias is a ring.
                if main.ends_with(format!(".{name}").as_bytes()) {
                    continue;
                }
                let local = &address.0[..at];
                if local.starts_with(b"<") || local.starts_with(b"@") {
                    continue;
                }
                // Where tags are taken off, a list that has the tagged name itself, for any domain, is not asked for it.
                let tagged = local.to_ascii_lowercase();
                if group.policy.batv && [&b"prvs="[..], b"btv1=="].iter().any(|tag| tagged.starts_with(tag)) {
                    continue;
                }
                let there = ask(&snapshot, &[local, b"@", main].concat());
                let here = ask(&snapshot, &[local, b"@", name.as_bytes()].concat());
                let is_odd = [&there, &here].iter().any(|answer| answer.step == rcptmapd::map::Step::Parse);
                if is_odd || there.verdict == Verdict::Absent && there.asked.is_none() {
                    continue;
                }
                prop_assert!(here.verdict != Verdict::Absent || here.asked.is_some(), "{name}: {there:?} {here:?}");
            }
        }
    }

    /// Without any data there is no "absent", except for what can't be an address of ours; and no "foreign" either unless
    /// all of our domains are known.
    #[test]
    fn without_data_nothing_is_known((mut directory, addresses) in generate::case(), complete: bool) {
        for list in &mut directory.lists {
            list.lines = None;
        }
        directory.groups_complete = complete;
        let (bare, _) = snapshot(&directory);
        for address in &addresses {
            for (snapshot, known) in [(&bare, complete && !directory.groups.is_empty()), (&Snapshot::empty(), false)] {
                let answer = ask(snapshot, &address.0);
                if answer.step != rcptmapd::map::Step::Parse {
                    prop_assert!(answer.enforced != Verdict::Absent, "{answer:?} {address:?}");
                    prop_assert!(known || answer.verdict != Verdict::Foreign, "{answer:?} {address:?}");
                }
            }
        }
    }

    /// Whatever bytes are asked for, at domains of ours or not: an answer, and the same as the model's.
    #[test]
    fn any_bytes_get_an_answer(
        (directory, _) in generate::case(),
        local in proptest::collection::vec(any::<u8>(), 0..40),
        domain in proptest::sample::select(&["@long-enough-a.example", "@B.Example.", "", "@", "@\u{ff0e}", "@long-enough-a.example>"][..]),
    ) {
        let (snapshot, _) = snapshot(&directory);
        let (naive, _) = Naive::new(&directory);
        let address = [&local, domain.as_bytes()].concat();
        prop_assert_eq!(ask(&snapshot, &address), naive.ask(&address), "{}", address.escape_ascii());
    }
}

/// The generators reach what they are made for: every step, every verdict, refusals of each kind, chains.
#[test]
fn the_generators_reach_every_corner() {
    use proptest::strategy::ValueTree;
    use std::collections::BTreeMap;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut count = |what: String| *seen.entry(what).or_default() += 1;
    for _ in 0..512 {
        let (directory, addresses) = generate::case().new_tree(&mut runner).expect("a case").current();
        let (naive, _) = Naive::new(&directory);
        for address in addresses {
            let answer = naive.ask(&address.0);
            count(format!("step {}", answer.step.name()));
            count(format!("verdict {}", answer.enforced));
            if let Some((_, domain, _)) = &answer.asked {
                let name = if address.0.ends_with(domain.as_bytes()) { "its name" } else { "another name" };
                count(format!("{} is asked about by {name}", answer.enforced));
            }
            if let Some((Says::As(..), _)) = answer.decided_by {
                count("renamed".to_owned());
            }
            if let Some((Says::No(_), _)) = answer.decided_by {
                count(format!("refused by {} is {}", answer.step.name(), answer.enforced));
            }
        }
    }
    for step in
        ["parse", "domain", "exact", "always", "unwrap", "detail", "any-domain", "prefix", "catch-all", "subdomains"]
    {
        let least = if step == "unwrap" { 20 } else { 50 };
        assert!(seen.get(&format!("step {step}")).is_some_and(|&n| n >= least), "{step}: {seen:#?}");
    }
    for verdict in ["exists", "absent", "unknown"] {
        for name in ["its name", "another name"] {
            let what = format!("{verdict} is asked about by {name}");
            assert!(seen.get(&what).is_some_and(|&n| n > 10), "{what}: {seen:#?}");
        }
    }
    assert!(seen.get("renamed").is_some_and(|&n| n > 20), "{seen:#?}");
    for verdict in Verdict::ALL {
        assert!(seen.get(&format!("verdict {verdict}")).is_some_and(|&n| n > 500), "{verdict}: {seen:#?}");
    }
    for step in ["exact", "detail", "any-domain", "prefix", "catch-all", "subdomains"] {
        for verdict in ["absent", "unknown"] {
            let what = format!("refused by {step} is {verdict}");
            assert!(seen.get(&what).is_some_and(|&n| n > 10), "{what}: {seen:#?}");
        }
    }
}
