//! What a configuration and what was read of its files make together: our domains, maps and routes.

use super::tables::Tables;
use crate::config::{self, Config, MapConfig, MapKind, MapValue, Wrapper};
use crate::logging::escape;
use crate::map::{DomainGroup, Mode, Policy, Verify};
use crate::probe::route::{self, NextHop, Routes, TargetError};
use crate::resolve::{Kind, Map, ValueOf};

/// Our domains; `false` when a domain file is missing, so that we don't know all of them.
pub fn groups(config: &Config, tables: &Tables) -> (Vec<DomainGroup>, bool) {
    let mut complete = true;
    // The first group that names a domain counts: one that spells it out before a file that lists it, too, and both before
    // the table.
    let mut groups: Vec<DomainGroup> = Vec::new();
    for domain in &config.domains {
        let names = domain.names.iter().map(|name| name.0.as_bytes().into()).collect();
        groups.push(DomainGroup { names, policy: policy(domain) });
    }
    for domain in &config.domains {
        let Some(path) = &domain.file else { continue };
        let Some(listed) = tables.domains(path) else {
            complete = false;
            continue;
        };
        groups.push(DomainGroup { names: listed.map(Into::into).collect(), policy: policy(domain) });
    }
    // Every domain of the table is ours: its next hop decides.
    if config.nexthops.as_ref().is_some_and(|nexthops| nexthops.domains) {
        let table = next_hops(config, tables, |_, _| {});
        complete &= table.is_some();
        groups.push(DomainGroup {
            names: table.iter().flat_map(|table| table.domains()).map(|(name, _)| name.into()).collect(),
            policy: Policy { verify: Verify::Probe, ..Policy::default() },
        });
    }
    (groups, complete)
}

pub fn maps(config: &Config, tables: &Tables) -> Vec<Map> {
    let kind = |map: &MapConfig| match map.kind {
        MapKind::Recipients => Kind::Recipients(match &map.value {
            MapValue::Echo => ValueOf::Echo,
            MapValue::Source => ValueOf::Source,
            MapValue::Word(word) => ValueOf::Word(word.as_str().into()),
        }),
        MapKind::Access => Kind::Access,
        MapKind::Check => Kind::Check,
        MapKind::Domains => Kind::Domains,
        MapKind::Table => Kind::Table(map.path.as_ref().and_then(|path| tables.table(path).cloned())),
        MapKind::Nexthop => Kind::Nexthop,
    };
    config.maps.iter().map(|map| Map { name: map.name.as_str().into(), kind: kind(map) }).collect()
}

/// Where the mail of our domains goes.
pub fn routes(config: &Config, tables: &Tables) -> Routes {
    let hop = |backend: &config::Backend| Some((backend.name.as_str().into(), NextHop::new(backend.servers.clone())?));
    let table = next_hops(config, tables, |key, error| {
        log::warn!("next hops: {}: {error}; nobody is asked for it", escape(key));
    });
    Routes {
        is_unread: config.nexthops.is_some() && table.is_none(),
        table: table.unwrap_or_default(),
        own: config.listen.iter().map(|listen| listen.on.clone()).collect(),
        backends: config.backends.iter().filter_map(hop).collect(),
        all_domains: config
            .backends
            .iter()
            .find(|backend| backend.all_domains)
            .map(|backend| backend.name.as_str().into()),
    }
}

/// `[nexthops]`, if it has been read. `fault` hears of what is of no use.
fn next_hops(config: &Config, tables: &Tables, mut fault: impl FnMut(&[u8], TargetError)) -> Option<route::Table> {
    let content = tables.table(&config.nexthops.as_ref()?.file)?;
    let mut table = route::Table::default();
    for (key, value) in content.pairs().iter() {
        if let Err(error) = table.insert(&String::from_utf8_lossy(key), &String::from_utf8_lossy(value)) {
            fault(key, error);
        }
    }
    Some(table)
}

fn policy(domain: &config::RelayDomain) -> Policy {
    Policy {
        subdomains: domain.subdomains,
        same_as: domain.same_as.as_ref().map(|main| main.0.as_bytes().into()),
        mode: match domain.mode {
            config::Mode::Enforce => Mode::Enforce,
            config::Mode::Warn => Mode::Warn,
            config::Mode::Off => Mode::Off,
        },
        delimiters: domain.subaddress.as_slice().into(),
        case_sensitive: domain.case_sensitive,
        always: domain.always.iter().map(|name| name.as_bytes().into()).collect(),
        batv: domain.unwrap.contains(&Wrapper::Batv),
        srs: domain.unwrap.contains(&Wrapper::Srs),
        skip: domain.skip,
        verify: match domain.verify {
            config::Verify::List => Verify::List,
            config::Verify::Probe => Verify::Probe,
            config::Verify::ListThenProbe => Verify::ListThenProbe,
            config::Verify::Both => Verify::Both,
        },
        backend: domain.backend.as_deref().map(Into::into),
        unavailable_exists: domain.unavailable.map(|unavailable| unavailable == config::Unavailable::Accept),
        absent: domain.absent.clone(),
        unknown: domain.unknown.clone(),
    }
}
