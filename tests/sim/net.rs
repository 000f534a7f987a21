//! A network in memory: connections of bytes, as TCP's, whose ways take time, can be cut, and break.
// tidy: sleeps because time is simulated

use crate::shape::Shape;
use crate::time::{Local, MS};
use crate::trace::Trace;
use arqondb::env::Rng;
use arqondb::rpc::link::net::{Connecting, Stream};
use arqondb::rpc::link::{Door, Net};
use bytes::{Buf, Bytes};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

/// Bytes that may be on one way of a connection.
const ON_THE_WAY_MAX: usize = 1 << 20;
/// What is lost in changing between two clocks.
const ROUNDING: u64 = 1_000;

type Site = usize;

#[derive(Clone)]
pub(crate) struct SimNet(Arc<Mutex<State>>);

struct State {
    rng: Rng,
    trace: Trace,
    /// Nothing arrives earlier than so long after it was sent: processes may be run one after the
    /// other for that long, and none misses what another has sent it meanwhile.
    latency_min: u64,
    /// The most that a way takes, beside spikes.
    latency_max: u64,
    /// Whether connections stall for seconds now and then.
    stalls: bool,
    cut: BTreeSet<(Site, Site)>,
    doors: BTreeMap<String, Waiting>,
    lanes: BTreeMap<u64, Lane>,
    next_lane: u64,
}

/// Connections that wait to be accepted: when they arrive, and their two ways.
struct Waiting {
    site: Site,
    queue: VecDeque<(u64, u64, u64)>,
    waker: Option<Waker>,
}

/// One way of a connection.
struct Lane {
    from: Site,
    to: Site,
    queue: VecDeque<(u64, Bytes)>,
    bytes: usize,
    last: u64,
    /// When the end of it arrives.
    ended: Option<u64>,
    /// Whoever reads is gone, and whoever writes is told.
    refused: bool,
    /// A host is gone without a word.
    lost: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Lane {
    fn wake(&mut self) {
        self.reader.take().into_iter().for_each(Waker::wake);
        self.writer.take().into_iter().for_each(Waker::wake);
    }
}

impl State {
    fn latency(&mut self) -> u64 {
        let usual = self.latency_min + self.rng.below(self.latency_max - self.latency_min + 1);
        // Now and then something is sent again by whoever carries it.
        match () {
            () if self.stalls && self.rng.one_in(2_000) => usual + self.rng.below(4_000 * MS),
            () if self.rng.one_in(300) => usual + self.rng.below(300 * MS),
            () => usual,
        }
    }

    fn lane(&mut self, from: Site, to: Site) -> u64 {
        self.next_lane += 1;
        let lane = Lane {
            from,
            to,
            queue: VecDeque::new(),
            bytes: 0,
            last: 0,
            ended: None,
            refused: false,
            lost: false,
            reader: None,
            writer: None,
        };
        self.lanes.insert(self.next_lane, lane);
        self.next_lane
    }

    fn is_cut(&self, a: Site, b: Site) -> bool {
        self.cut.contains(&(a, b))
    }
}

impl SimNet {
    pub(crate) fn new(rng: Rng, trace: Trace, shape: &Shape) -> SimNet {
        SimNet(Arc::new(Mutex::new(State {
            rng,
            trace,
            latency_min: shape.latency_min,
            latency_max: shape.latency_max,
            stalls: shape.stalls,
            cut: BTreeSet::new(),
            doors: BTreeMap::new(),
            lanes: BTreeMap::new(),
            next_lane: 0,
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// The network as a process sees it.
    pub(crate) fn port(&self, local: &Arc<Local>) -> Arc<dyn Net> {
        Arc::new(Port { net: self.clone(), local: local.clone() })
    }

    /// Listens at an address.
    pub(crate) fn door(&self, local: &Arc<Local>, address: &str) -> SimDoor {
        let waiting = Waiting { site: local.site, queue: VecDeque::new(), waker: None };
        self.state().doors.insert(address.to_string(), waiting);
        SimDoor {
            net: self.clone(),
            local: local.clone(),
            address: address.to_string(),
            sleep: None,
        }
    }

    /// Lets nothing through from `from` to `to`; what is on its way waits.
    pub(crate) fn cut(&self, from: Site, to: Site) {
        self.state().cut.insert((from, to));
    }

    /// Lets everything through again. What has waited comes some time later.
    pub(crate) fn heal(&self, now: u64) {
        let mut state = self.state();
        let cut = std::mem::take(&mut state.cut);
        let late = now + state.latency();
        for lane in state.lanes.values_mut().filter(|l| cut.contains(&(l.from, l.to))) {
            lane.queue.iter_mut().for_each(|(at, _)| *at = (*at).max(late));
            lane.last = lane.last.max(late);
            lane.ended = lane.ended.map(|at| at.max(late));
            lane.wake();
        }
    }

    /// A host's process is gone. Its connections end, or, if it is the host that is gone, nothing
    /// is heard of them any more.
    pub(crate) fn crash(&self, site: Site, now: u64, silently: bool) {
        let mut state = self.state();
        state.doors.retain(|_, door| door.site != site);
        let late = now + state.latency();
        for lane in state.lanes.values_mut().filter(|l| l.from == site || l.to == site) {
            if silently {
                lane.lost = true;
                continue;
            }
            if lane.from == site {
                lane.ended.get_or_insert(late.max(lane.last));
            } else {
                lane.refused = true;
            }
            lane.wake();
        }
    }

    /// Has a process that goes on look at what came meanwhile before it looks at its clock.
    pub(crate) fn rouse(&self, site: Site) {
        let mut state = self.state();
        for lane in state.lanes.values_mut().filter(|lane| lane.to == site) {
            lane.reader.take().into_iter().for_each(Waker::wake);
        }
    }

    /// A host is there again: it knows nothing of the connections of before.
    pub(crate) fn revive(&self, site: Site, now: u64) {
        let mut state = self.state();
        let soon = now + state.latency_min;
        for lane in state.lanes.values_mut().filter(|l| l.from == site || l.to == site) {
            if std::mem::take(&mut lane.lost) {
                lane.queue.clear();
                lane.refused = true;
                lane.ended.get_or_insert(soon);
                lane.wake();
            }
        }
    }

    /// Breaks a share of the connections.
    pub(crate) fn reset_some(&self, now: u64) {
        let mut state = self.state();
        let soon = now + state.latency_min;
        let ids: Vec<u64> = state.lanes.keys().copied().collect();
        for id in ids {
            if state.rng.one_in(4)
                && let Some(lane) = state.lanes.get_mut(&id)
            {
                lane.queue.clear();
                lane.refused = true;
                lane.ended.get_or_insert(soon);
                lane.wake();
            }
        }
    }
}

#[derive(Clone)]
struct Port {
    net: SimNet,
    local: Arc<Local>,
}

impl std::fmt::Debug for Port {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the network of host {}", self.local.site)
    }
}

impl Port {
    fn ends(&self, incoming: u64, outgoing: u64) -> Stream {
        let reading = Reading { port: self.clone(), lane: incoming, sleep: None };
        let writing = Writing { port: self.clone(), lane: outgoing };
        Stream { read: Box::new(reading), write: Box::new(writing) }
    }

    async fn travel(&self) {
        let late = Duration::from_nanos(self.net.state().latency());
        tokio::time::sleep(late).await;
    }
}

impl Net for Port {
    fn connect<'a>(&'a self, address: &'a str) -> Connecting<'a> {
        Box::pin(async move {
            let own = self.local.site;
            loop {
                self.travel().await;
                let opened = {
                    let mut state = self.net.state();
                    let Some(site) = state.doors.get(address).map(|door| door.site) else {
                        return Err(io::ErrorKind::ConnectionRefused.into());
                    };
                    if state.is_cut(own, site) || state.is_cut(site, own) {
                        None
                    } else {
                        let (there, back) = (state.lane(own, site), state.lane(site, own));
                        let at = self.local.now() + state.latency_min;
                        if let Some(door) = state.doors.get_mut(address) {
                            door.queue.push_back((at, there, back));
                            door.waker.take().into_iter().for_each(Waker::wake);
                        }
                        Some(self.ends(back, there))
                    }
                };
                if let Some(stream) = opened {
                    self.travel().await;
                    return Ok(stream);
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        })
    }
}

pub(crate) struct SimDoor {
    net: SimNet,
    local: Arc<Local>,
    address: String,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl SimDoor {
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Stream>> {
        loop {
            let due = {
                let mut state = self.net.state();
                let Some(door) = state.doors.get_mut(&self.address) else {
                    return Poll::Pending;
                };
                match door.queue.front().copied() {
                    Some((at, there, back)) if at <= self.local.now() + ROUNDING => {
                        door.queue.pop_front();
                        let port = Port { net: self.net.clone(), local: self.local.clone() };
                        return Poll::Ready(Ok(port.ends(there, back)));
                    }
                    Some((at, _, _)) => at,
                    None => {
                        door.waker = Some(cx.waker().clone());
                        return Poll::Pending;
                    }
                }
            };
            let until = self.local.instant(due);
            let sleep = self.sleep.insert(Box::pin(tokio::time::sleep_until(until)));
            if sleep.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }
}

impl Door for SimDoor {
    async fn accept(&mut self) -> io::Result<Stream> {
        poll_fn(|cx| self.poll_accept(cx)).await
    }
}

struct Reading {
    port: Port,
    lane: u64,
    sleep: Option<Pin<Box<Sleep>>>,
}

/// What a reader finds.
enum Found {
    Bytes,
    End,
    Later(u64),
    Nothing,
}

impl Reading {
    fn look(&self, cx: &Context<'_>, buf: &mut ReadBuf<'_>) -> Found {
        let now = self.port.local.now();
        let mut guard = self.port.net.state();
        let state = &mut *guard;
        let Some(lane) = state.lanes.get_mut(&self.lane) else { return Found::End };
        lane.reader = Some(cx.waker().clone());
        if lane.lost || state.cut.contains(&(lane.from, lane.to)) {
            return Found::Nothing;
        }
        match lane.queue.front_mut() {
            Some((at, bytes)) if *at <= now + ROUNDING => {
                let n = buf.remaining().min(bytes.len());
                let (from, to) = (lane.from as u64, lane.to as u64);
                state.trace.note(now, "message", &[from, to, self.lane], &bytes[..n]);
                buf.put_slice(&bytes[..n]);
                bytes.advance(n);
                lane.bytes -= n;
                if bytes.is_empty() {
                    lane.queue.pop_front();
                }
                lane.writer.take().into_iter().for_each(Waker::wake);
                Found::Bytes
            }
            Some((at, _)) => Found::Later(*at),
            None => match lane.ended {
                Some(at) if at <= now + ROUNDING => Found::End,
                Some(at) => Found::Later(at),
                None => Found::Nothing,
            },
        }
    }
}

impl AsyncRead for Reading {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            match this.look(cx, buf) {
                Found::Bytes | Found::End => return Poll::Ready(Ok(())),
                Found::Nothing => return Poll::Pending,
                Found::Later(at) => {
                    let until = this.port.local.instant(at);
                    let sleep = this.sleep.insert(Box::pin(tokio::time::sleep_until(until)));
                    if sleep.as_mut().poll(cx).is_pending() {
                        return Poll::Pending;
                    }
                }
            }
        }
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        let mut state = self.port.net.state();
        if let Some(lane) = state.lanes.get_mut(&self.lane) {
            if lane.lost {
                return;
            }
            lane.refused = true;
            lane.queue.clear();
            lane.wake();
            if lane.ended.is_some() {
                state.lanes.remove(&self.lane);
            }
        }
    }
}

struct Writing {
    port: Port,
    lane: u64,
}

impl Writing {
    fn end(&self) {
        let now = self.port.local.now();
        let mut state = self.port.net.state();
        let late = now + state.latency();
        if let Some(lane) = state.lanes.get_mut(&self.lane) {
            if lane.lost {
                return;
            }
            lane.ended.get_or_insert(late.max(lane.last));
            lane.reader.take().into_iter().for_each(Waker::wake);
        }
    }
}

impl AsyncWrite for Writing {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let now = self.port.local.now();
        let mut state = self.port.net.state();
        let late = now + state.latency();
        let Some(lane) = state.lanes.get_mut(&self.lane).filter(|l| !l.refused || l.lost) else {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        };
        if lane.lost {
            return Poll::Ready(Ok(bytes.len()));
        }
        let room = ON_THE_WAY_MAX - lane.bytes.min(ON_THE_WAY_MAX);
        if room == 0 {
            lane.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let n = bytes.len().min(room);
        lane.last = lane.last.max(late);
        lane.queue.push_back((lane.last, Bytes::copy_from_slice(&bytes[..n])));
        lane.bytes += n;
        lane.reader.take().into_iter().for_each(Waker::wake);
        Poll::Ready(Ok(n))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.end();
        Poll::Ready(Ok(()))
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        self.end();
        let mut state = self.port.net.state();
        if state.lanes.get(&self.lane).is_some_and(|lane| lane.refused) {
            state.lanes.remove(&self.lane);
        }
    }
}
