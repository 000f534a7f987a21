//! All hosts of a simulation, and their one time.

use crate::net::SimNet;
use crate::process::{Common, Process, group_options, may_try_again};
use crate::shape::Shape;
use crate::time::{Local, MS, SECOND};
use crate::trace::Trace;
use arqondb::env::rng::Seeds;
use arqondb::env::sim_disk::Crash;
use arqondb::env::{Rng, SimDisk};

/// How often it is looked whether a group has stopped.
const LOOK_EVERY_STEPS: u64 = 8;

/// What a host is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Meta(u64),
    Node(usize),
    Gateway(usize),
    /// Whoever operates the cluster.
    Operator,
}

/// A crash to come.
#[derive(Debug, Clone, Copy)]
struct Doom {
    /// At this change of the disk, or at this time.
    changes: u64,
    until: u64,
    crash: Crash,
    silently: bool,
    /// The most that it is down.
    down_max: u64,
}

/// A machine: its disk stays, processes come and go.
pub(crate) struct Host {
    pub(crate) kind: Kind,
    pub(crate) process: Option<Process>,
    disk: SimDisk,
    /// When it is started if it is down.
    pub(crate) up_at: u64,
    paused_until: Option<u64>,
    /// The most that a sync takes, and when the next may be done.
    pub(crate) sync_max: u64,
    sync_at: u64,
    /// When something may be done in the background next.
    work_at: u64,
    /// Its disk was made to fail, so it may stop.
    pub(crate) disk_failed: bool,
    /// Whether the room on its disk is limited.
    is_full: bool,
    doom: Option<Doom>,
    changes: u64,
    faster_ppm: i64,
    calendar_off_ms: i64,
}

impl Host {
    /// Limits what its disk has room for, or no longer.
    pub(crate) fn limit(&mut self, bytes: Option<u64>) {
        self.is_full = bytes.is_some();
        self.disk.set_capacity(bytes);
        if let Some(process) = &self.process {
            process.disk.set_capacity(bytes);
        }
    }
}

/// What is done with each gateway that is started.
pub(crate) type OnGateway = Box<dyn Fn(&Process, usize, &Common)>;

pub(crate) struct World {
    pub(crate) shape: Shape,
    pub(crate) common: Common,
    pub(crate) trace: Trace,
    pub(crate) rng: Rng,
    pub(crate) now: u64,
    pub(crate) hosts: Vec<Host>,
    pub(crate) starts: u64,
    /// What starts the clients of a gateway.
    pub(crate) on_gateway: OnGateway,
}

impl World {
    pub(crate) fn new(
        seed: u64,
        (length, calm): (u64, bool),
        trace: Trace,
        on_gateway: OnGateway,
    ) -> World {
        let mut rng = Rng::new(seed);
        let shape = Shape::draw(&mut rng, length, calm);
        arqondb::raft::chance::choose_chance(rng.next_u64());
        let net = SimNet::new(rng.fork(), trace.clone(), &shape);
        let metas = (1..=shape.metas).map(|id| (id, format!("meta-{id}:8379"))).collect();
        let group = group_options(&shape);
        let (seeds, write_buffer_bytes) = (Seeds::from(rng.next_u64()), shape.write_buffer_bytes);
        let echoes = shape.echoes;
        let common = Common { net, seeds, metas, group, write_buffer_bytes, echoes };
        let mut kinds: Vec<Kind> = (1..=shape.metas).map(Kind::Meta).collect();
        kinds.extend((1..=shape.nodes).map(Kind::Node));
        kinds.extend((1..=shape.gateways).map(Kind::Gateway));
        kinds.push(Kind::Operator);
        let mut world =
            World { shape, common, trace, rng, now: 0, hosts: Vec::new(), starts: 0, on_gateway };
        for kind in kinds {
            let rate = world.shape.rate_ppm;
            let mut faster_ppm = world.rng.below(2 * rate + 1) as i64 - rate as i64;
            let may_lag = world.shape.lag_ppm > 0 && matches!(kind, Kind::Node(_));
            if may_lag && world.rng.one_in(2) {
                let lag = world.shape.lag_ppm;
                faster_ppm -= (lag - world.rng.below(lag / 4)) as i64;
            }
            let calendar_off_ms = world.rng.below(2_000) as i64 - 1_000;
            world.hosts.push(Host {
                kind,
                process: None,
                disk: SimDisk::new(),
                up_at: u64::MAX,
                paused_until: None,
                sync_max: world.shape.latency_min,
                sync_at: 0,
                work_at: 0,
                disk_failed: false,
                is_full: false,
                doom: None,
                changes: 0,
                faster_ppm,
                calendar_off_ms,
            });
        }
        world
    }

    /// The hosts of which `is_one` holds.
    pub(crate) fn sites(&self, is_one: impl Fn(Kind) -> bool) -> Vec<usize> {
        (0..self.hosts.len()).filter(|site| is_one(self.hosts[*site].kind)).collect()
    }

    /// Starts the process of a host.
    pub(crate) fn start(&mut self, site: usize) {
        let host = &mut self.hosts[site];
        assert!(host.process.is_none());
        self.starts += 1;
        self.common.net.revive(site, self.now);
        let local = Local::new(site, self.now, host.faster_ppm, host.calendar_off_ms);
        let name = format!("{:?}", host.kind);
        let mut process = Process::new(name, local, host.disk.clone());
        match host.kind {
            Kind::Meta(id) => process.start_meta(&self.common, id),
            Kind::Node(number) => process.start_node(&self.common, number),
            Kind::Gateway(number) => (self.on_gateway)(&process, number, &self.common),
            Kind::Operator => {}
        }
        host.process = Some(process);
        host.up_at = u64::MAX;
        host.disk_failed = host.is_full;
        host.paused_until = None;
        host.changes = 0;
        self.trace.note(self.now, "start", &[site as u64], &[]);
    }

    /// Ends the process of a host, and starts it again at `up_at`.
    pub(crate) fn crash(&mut self, site: usize, crash: Crash, silently: bool, up_at: u64) {
        let now = self.now;
        let host = &mut self.hosts[site];
        host.doom = None;
        let Some(process) = host.process.take() else { return };
        self.common.net.crash(site, now, silently);
        process.disk.stop_at(Some(0));
        host.disk = process.disk.crash(crash);
        host.up_at = up_at;
        process.end();
        self.trace.note(now, &format!("end {crash:?} {silently}"), &[site as u64], &[]);
    }

    /// Has a host crash in the midst of what it does to its disk.
    pub(crate) fn doom(
        &mut self,
        site: usize,
        changes: u64,
        crash: Crash,
        silently: bool,
        down_max: u64,
    ) {
        let host = &mut self.hosts[site];
        let Some(process) = &host.process else { return };
        process.disk.stop_at(Some(changes));
        host.disk_failed = true;
        let until = self.now + 2 * SECOND;
        let changes = process.disk.changes() + changes;
        host.doom = Some(Doom { changes, until, crash, silently, down_max });
    }

    /// Has a host lose power at a time, with a disk that works until then.
    pub(crate) fn doom_at(&mut self, site: usize, until: u64, crash: Crash, down_max: u64) {
        if self.hosts[site].process.is_some() {
            let changes = u64::MAX;
            self.hosts[site].doom = Some(Doom { changes, until, crash, silently: true, down_max });
        }
    }

    /// Does not run a process until then.
    pub(crate) fn pause(&mut self, site: usize, until: u64) {
        if self.hosts[site].process.is_some() {
            self.hosts[site].paused_until = Some(until);
        }
    }

    pub(crate) fn set_calendar(&mut self, site: usize, off_ms: i64) {
        let host = &mut self.hosts[site];
        host.calendar_off_ms = off_ms;
        if let Some(process) = &host.process {
            process.local.set_calendar(off_ms);
        }
    }

    /// Lets a little time pass.
    pub(crate) fn step(&mut self) {
        let until = self.now + self.shape.latency_min;
        for site in 0..self.hosts.len() {
            self.step_host(site, until);
        }
        self.now = until;
        for site in 0..self.hosts.len() {
            self.look_after(site);
        }
    }

    fn step_host(&mut self, site: usize, until: u64) {
        if self.hosts[site].process.is_none() && self.hosts[site].up_at <= self.now {
            self.start(site);
        }
        let host = &mut self.hosts[site];
        let Some(process) = &host.process else { return };
        if let Some(pause) = host.paused_until {
            if pause > self.now {
                return;
            }
            host.paused_until = None;
            if self.rng.one_in(2) {
                self.common.net.rouse(site);
            }
            process.awake(self.now);
        }
        let sync = host.sync_at <= self.now;
        if sync {
            host.sync_at = self.now + self.rng.below(host.sync_max + 1);
        }
        // Tables may be written of what the log has not synced, and may be late.
        let work = host.work_at <= self.now;
        if work && self.rng.one_in(100) {
            host.work_at = self.now + self.rng.below(500 * MS);
        }
        process.run_until(until, sync, work);
        let changes = process.disk.changes();
        if changes != host.changes {
            host.changes = changes;
            self.trace.note(until, "disk", &[site as u64, changes], &[]);
        }
    }

    /// Ends and starts again what would be, by whoever looks after services.
    fn look_after(&mut self, site: usize) {
        let now = self.now;
        let host = &self.hosts[site];
        let Some(process) = &host.process else { return };
        if host.paused_until.is_some() {
            return;
        }
        if let Some(doom) = host.doom
            && (process.disk.changes() >= doom.changes || doom.until <= now)
        {
            let down = self.rng.below(doom.down_max);
            return self.crash(site, doom.crash, doom.silently, now + down);
        }
        if process.leaving.as_ref().is_some_and(|done| *done.lock().unwrap()) {
            return self.crash(site, Crash::Process, false, now + 100 * MS);
        }
        // A look at all groups takes longer than most steps.
        let looks = (now / self.shape.latency_min + site as u64).is_multiple_of(LOOK_EVERY_STEPS);
        let failed = host.disk_failed;
        if let Some(error) = process.refused() {
            assert!(failed || may_try_again(error.kind()), "{} ended: {error}", process.name);
            return self.crash(site, Crash::Process, false, now + 500 * MS);
        }
        if looks && let Some(why) = process.stopped() {
            assert!(failed, "a group of {} stopped: {why}", process.name);
            self.trace.say(now, "a group has stopped");
            self.crash(site, Crash::PowerLostClean, false, now + 500 * MS);
        }
    }

    /// Lets time pass until `is_so`, for `at_most` at the longest; says whether it became so.
    pub(crate) fn until(&mut self, at_most: u64, mut is_so: impl FnMut(&World) -> bool) -> bool {
        let end = self.now + at_most;
        while self.now < end {
            if is_so(self) {
                return true;
            }
            self.step();
        }
        is_so(self)
    }

    /// Mends everything.
    pub(crate) fn heal(&mut self) {
        self.common.net.heal(self.now);
        for site in 0..self.hosts.len() {
            let host = &mut self.hosts[site];
            if let Some(Doom { crash, silently, .. }) = host.doom {
                self.crash(site, crash, silently, self.now);
            }
            let host = &mut self.hosts[site];
            host.paused_until = host.paused_until.map(|until| until.min(self.now));
            host.sync_max = self.shape.latency_min;
            host.limit(None);
            if let Some(process) = &host.process {
                process.disk.heal();
            } else {
                host.up_at = host.up_at.min(self.now);
            }
        }
        self.trace.say(self.now, "healed");
    }
}
