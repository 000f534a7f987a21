//! What befalls the cluster, drawn from the seed.

use crate::shape::Fault;
use crate::time::{MS, SECOND};
use crate::world::{Kind, World};
use arqondb::env::sim_disk::{Crash, Fault as DiskFault};
use std::collections::BTreeMap;

/// The faults of a simulation as they come and go.
pub(crate) struct Faults {
    next_at: u64,
    /// When the ways that are cut are mended.
    cut_until: Option<u64>,
    slow: BTreeMap<usize, u64>,
    full: BTreeMap<usize, u64>,
    pub(crate) done: BTreeMap<Fault, u64>,
}

impl Faults {
    pub(crate) fn new(world: &World) -> Faults {
        Faults {
            next_at: world.now + SECOND,
            cut_until: None,
            slow: BTreeMap::new(),
            full: BTreeMap::new(),
            done: BTreeMap::new(),
        }
    }

    /// Begins and ends what is due.
    pub(crate) fn turn(&mut self, world: &mut World) {
        let now = world.now;
        if self.cut_until.is_some_and(|until| until <= now) {
            self.cut_until = None;
            world.common.net.heal(now);
            world.trace.say(now, "ways mended");
        }
        let over = |faults: &mut BTreeMap<usize, u64>| {
            let due: Vec<usize> =
                faults.iter().filter(|(_, until)| **until <= now).map(|(site, _)| *site).collect();
            faults.retain(|_, until| *until > now);
            due
        };
        for site in over(&mut self.slow) {
            world.hosts[site].sync_max = world.shape.latency_min;
        }
        for site in over(&mut self.full) {
            world.hosts[site].limit(None);
        }
        if self.next_at <= now {
            let mean = world.shape.fault_every;
            self.next_at = now + mean / 4 + world.rng.below(mean * 3 / 2);
            let faults = &world.shape.faults;
            let fault = faults[world.rng.below(faults.len() as u64) as usize];
            world.trace.say(now, &format!("{fault:?}"));
            *self.done.entry(fault).or_default() += 1;
            self.begin(world, fault);
        }
    }

    fn begin(&mut self, world: &mut World, fault: Fault) {
        let now = world.now;
        let nodes = world.sites(|kind| matches!(kind, Kind::Node(_)));
        let keepers = world.sites(|kind| matches!(kind, Kind::Node(_) | Kind::Meta(_)));
        let long = now + 200 * MS + world.rng.below(8 * SECOND);
        match fault {
            Fault::CrashNode => crash_one(world, |kind| matches!(kind, Kind::Node(_))),
            Fault::CrashMeta => crash_one(world, |kind| matches!(kind, Kind::Meta(_))),
            Fault::CrashGateway => {
                let site = pick(world, &world.sites(|kind| matches!(kind, Kind::Gateway(_))));
                let up_at = now + world.rng.below(2 * SECOND);
                world.crash(site, Crash::Process, false, up_at);
            }
            Fault::CrashAll => {
                for site in keepers {
                    let (crash, up_at) = (draw_crash(world), now + world.rng.below(3 * SECOND));
                    world.crash(site, crash, true, up_at);
                }
            }
            Fault::Restart => {
                let site = pick(world, &keepers);
                if let Some(process) = &mut world.hosts[site].process
                    && process.leaving.is_none()
                {
                    process.leave();
                }
            }
            Fault::Pause => {
                let asks = |kind| matches!(kind, Kind::Gateway(_));
                let among = if world.rng.one_in(3) { world.sites(asks) } else { keepers };
                let site = pick(world, &among);
                world.pause(site, long);
            }
            Fault::Overtaken => {
                let leaders = leaders(world, &nodes);
                if !leaders.is_empty() {
                    let leader = pick(world, &leaders);
                    for other in keepers.iter().copied().filter(|other| *other != leader) {
                        world.common.net.cut(leader, other);
                        world.common.net.cut(other, leader);
                    }
                    self.cut_until = Some(now + 5 * beats(world).1);
                }
            }
            Fault::Isolate | Fault::Halves | Fault::OneWay | Fault::Bridge => {
                cut(world, fault, &nodes, &keepers);
                self.cut_until = Some(long);
            }
            Fault::Reset => world.common.net.reset_some(now),
            Fault::SlowDisk => {
                let site = pick(world, &keepers);
                world.hosts[site].sync_max = 50 * MS + world.rng.below(800 * MS);
                self.slow.insert(site, long);
            }
            Fault::NoSpace => {
                let site = pick(world, &keepers);
                let spare = world.rng.below(100 << 10);
                let host = &mut world.hosts[site];
                if let Some(process) = &host.process {
                    let bytes = process.disk.used_bytes() + spare;
                    host.limit(Some(bytes));
                    host.disk_failed = true;
                    self.full.insert(site, long);
                }
            }
            Fault::SyncError => {
                let site = pick(world, &keepers);
                let skip = world.rng.below(20);
                let host = &mut world.hosts[site];
                if let Some(process) = &host.process {
                    process.disk.fail(DiskFault::SyncError, skip);
                    host.disk_failed = true;
                }
            }
            Fault::Calendar => {
                let site = pick(world, &keepers);
                let off_ms = world.rng.below(4_000) as i64 - 2_000;
                world.set_calendar(site, off_ms);
            }
            Fault::Contest => self.contest(world, &nodes, long),
            Fault::Blackout => self.blackout(world, &keepers),
        }
    }

    /// Lets some hosts sync late, and then lose power.
    fn blackout(&mut self, world: &mut World, keepers: &[usize]) {
        let (ms, second) = beats(world);
        let first = pick(world, keepers);
        let others = if world.rng.one_in(3) { 3 } else { 8 };
        for site in keepers.iter().copied() {
            if site != first && !world.rng.one_in(others) {
                continue;
            }
            world.hosts[site].sync_max = 100 * ms + world.rng.below(900 * ms);
            self.slow.insert(site, world.now + 4 * second);
            let at = world.now + 200 * ms + world.rng.below(2 * second);
            let crash = match world.rng.below(2) {
                0 => Crash::PowerLostClean,
                _ => Crash::PowerLost(world.rng.next_u64()),
            };
            world.doom_at(site, at, crash, second);
        }
    }

    /// Takes a leader away, and has others lose power while they vote for the next.
    fn contest(&mut self, world: &mut World, nodes: &[usize], long: u64) {
        let leaders = leaders(world, nodes);
        if leaders.is_empty() {
            return;
        }
        let (ms, second) = beats(world);
        let leader = pick(world, &leaders);
        match world.rng.below(3) {
            0 => {
                let (up_at, silently) = (world.now + world.rng.below(second), world.rng.one_in(2));
                world.crash(leader, Crash::PowerLostClean, silently, up_at);
            }
            // It finds what was sent to it meanwhile.
            1 => {
                let until = world.now + 700 * ms + world.rng.below(1_500 * ms);
                world.pause(leader, until);
            }
            _ => {
                // Some clients reach it alone.
                let everyone = 0..world.hosts.len();
                let with_it: Vec<bool> = everyone
                    .clone()
                    .map(|site| {
                        site == leader
                            || matches!(world.hosts[site].kind, Kind::Gateway(_))
                                && world.rng.one_in(2)
                    })
                    .collect();
                for a in everyone.clone() {
                    for b in everyone.clone().filter(|b| with_it[*b] != with_it[a]) {
                        world.common.net.cut(a, b);
                    }
                }
                self.cut_until = Some(long);
            }
        }
        for other in nodes.iter().copied().filter(|other| *other != leader) {
            match world.rng.below(4) {
                0 => {
                    let changes = 1 + world.rng.below(6);
                    world.doom(other, changes, Crash::PowerLostClean, true, 300 * ms);
                }
                1 => {
                    world.hosts[other].sync_max = 100 * ms + world.rng.below(600 * ms);
                    self.slow.insert(other, world.now + 3 * second);
                    let at = world.now + 300 * ms + world.rng.below(1_200 * ms);
                    world.doom_at(other, at, Crash::PowerLostClean, 300 * ms);
                }
                _ => {}
            }
        }
    }
}

/// A millisecond and a second, as long as elections take.
fn beats(world: &World) -> (u64, u64) {
    let ms = world.shape.heartbeat.as_nanos() as u64 / 100;
    (ms, 1_000 * ms)
}

fn pick(world: &mut World, among: &[usize]) -> usize {
    among[world.rng.below(among.len() as u64) as usize]
}

fn draw_crash(world: &mut World) -> Crash {
    match world.rng.below(4) {
        0 => Crash::Process,
        1 => Crash::PowerLostClean,
        _ => Crash::PowerLost(world.rng.next_u64()),
    }
}

fn crash_one(world: &mut World, is_one: impl Fn(Kind) -> bool) {
    let sites = world.sites(is_one);
    let site = pick(world, &sites);
    let (crash, silently) = (draw_crash(world), world.rng.one_in(2));
    if world.rng.one_in(2) {
        let changes = world.rng.below(40);
        world.doom(site, changes, crash, silently, 4 * SECOND);
    } else {
        let up_at = world.now + world.rng.below(6 * SECOND);
        world.crash(site, crash, silently, up_at);
    }
}

fn leaders(world: &World, nodes: &[usize]) -> Vec<usize> {
    nodes.iter().copied().filter(|site| leads(world, *site)).collect()
}

fn leads(world: &World, site: usize) -> bool {
    let process = world.hosts[site].process.as_ref();
    let replicas = process.map_or(Vec::new(), |process| process.replicas());
    replicas.iter().any(|(_, group, _)| {
        let status = group.status();
        status.leader == Some(status.replica)
    })
}

/// Cuts ways. Gateways and whoever operates may be cut off too, at random.
fn cut(world: &mut World, fault: Fault, nodes: &[usize], keepers: &[usize]) {
    let net = world.common.net.clone();
    let everyone: Vec<usize> = (0..world.hosts.len()).collect();
    let of = if world.rng.one_in(2) { nodes } else { keepers };
    match fault {
        Fault::Isolate => {
            let one = pick(world, of);
            // Sometimes clients reach it still.
            let others = if world.rng.one_in(2) { keepers } else { &everyone };
            for other in others.iter().filter(|other| **other != one) {
                net.cut(one, *other);
                net.cut(*other, one);
            }
        }
        Fault::Halves => {
            let left: Vec<bool> = everyone.iter().map(|_| world.rng.one_in(2)).collect();
            for a in &everyone {
                for b in everyone.iter().filter(|b| left[**b] != left[*a]) {
                    net.cut(*a, *b);
                }
            }
        }
        Fault::OneWay => {
            for a in of {
                for b in of.iter().filter(|b| *b != a) {
                    if world.rng.one_in(4) {
                        net.cut(*a, *b);
                    }
                }
            }
        }
        _ => {
            let bridge = pick(world, of);
            let left: Vec<bool> = everyone.iter().map(|_| world.rng.one_in(2)).collect();
            for a in of.iter().filter(|a| **a != bridge) {
                for b in of.iter().filter(|b| **b != bridge && left[**b] != left[*a]) {
                    net.cut(*a, *b);
                }
            }
        }
    }
}
