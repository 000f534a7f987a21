//! When a batch is due.

/// The schedule of one session.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Nanoseconds between batches of all sessions together; `None` sends as fast as answers come.
    pub interval_ns: Option<f64>,
    /// How many sessions share the schedule.
    pub sessions: u64,
    /// This session, from 0.
    pub session: u64,
}

impl Pace {
    /// When this session's batch `index` is due, in nanoseconds from the start; `None` for at once.
    pub fn due_ns(&self, index: u64) -> Option<u64> {
        let place = index.saturating_mul(self.sessions).saturating_add(self.session);
        self.interval_ns.map(|interval| (interval * place as f64) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_take_turns_and_add_up_to_the_rate() {
        let pace = |session| Pace { interval_ns: Some(1000.0), sessions: 3, session };
        let mut due: Vec<u64> =
            (0..3).flat_map(|s| (0..4).filter_map(move |i| pace(s).due_ns(i))).collect();
        due.sort_unstable();
        assert!(due.into_iter().eq((0..12).map(|i| i * 1000)));
        assert_eq!(Pace { interval_ns: None, sessions: 3, session: 1 }.due_ns(7), None);
    }
}
