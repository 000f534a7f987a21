//! What the operating system says of this process and of itself. Read from `/proc`; where there
//! is none (macOS), figures are 0 and names are what the build knows.

/// Memory and processor time of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Bytes resident in memory.
    pub resident_bytes: u64,
    /// The most bytes that ever were.
    pub resident_bytes_max: u64,
    /// Microseconds of processor time spent in the program.
    pub user_us: u64,
    /// Microseconds of processor time spent in the kernel.
    pub system_us: u64,
}

/// The present usage. Cost: two small files read.
pub fn usage() -> Usage {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let (user_us, system_us) = times(&stat);
    Usage {
        resident_bytes: kilobytes(&status, "VmRSS:"),
        resident_bytes_max: kilobytes(&status, "VmHWM:"),
        user_us,
        system_us,
    }
}

/// Bytes of memory the machine has; 0 if unknown.
pub fn machine_memory_bytes() -> u64 {
    kilobytes(&std::fs::read_to_string("/proc/meminfo").unwrap_or_default(), "MemTotal:")
}

/// Name, release and architecture of the operating system: `Linux 6.1.0 x86_64`.
pub fn system_name() -> String {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let name = match std::env::consts::OS {
        "linux" => "Linux",
        "macos" => "Darwin",
        other => other,
    };
    let words = [name, release.trim(), std::env::consts::ARCH];
    words.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

/// Stops another process where it is, or lets it go on.
///
/// # Errors
/// What the operating system answers: there is no such process, or it is somebody else's.
pub fn pause(id: u32, pause: bool) -> crate::base::Result<()> {
    use rustix::process::{Pid, Signal, kill_process};
    let signal = if pause { Signal::STOP } else { Signal::CONT };
    let Some(pid) = i32::try_from(id).ok().and_then(Pid::from_raw) else {
        return Err(crate::base::Error::invalid(format!("{id} is no process id")));
    };
    kill_process(pid, signal).map_err(|e| {
        let place = format!("process {id}");
        crate::base::Error::io("signal", std::path::Path::new(&place), e.into())
    })
}

/// Has the system end this process when the one that started it ends (Linux; elsewhere it goes on).
pub fn end_with_parent() {
    #[cfg(target_os = "linux")]
    {
        // A system that does not know it leaves the process to its parent's care.
        _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
    }
}

/// A new file that gets what another process says.
///
/// # Errors
/// What the operating system answers.
pub fn log_file(path: &std::path::Path) -> crate::base::Result<std::fs::File> {
    std::fs::File::create(path).map_err(|e| crate::base::Error::io("create", path, e))
}

/// A file that gets what another process says, behind what is there already.
///
/// # Errors
/// What the operating system answers.
pub fn log_file_to_go_on(path: &std::path::Path) -> crate::base::Result<std::fs::File> {
    let opened = std::fs::OpenOptions::new().append(true).create(true).open(path);
    opened.map_err(|e| crate::base::Error::io("open", path, e))
}

/// When a process was started, in words that no other process of its number has had since the
/// machine was; `None` if it has ended.
pub fn started(pid: u32) -> Option<String> {
    if cfg!(target_os = "linux") {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        return start_tick(&stat).map(|tick| format!("{tick}@{}", boot.trim()));
    }
    let id = pid.to_string();
    let asked = std::process::Command::new("ps").args(["-o", "lstart=,stat=", "-p", &id]).output();
    let said = String::from_utf8(asked.ok()?.stdout).ok()?;
    let (at, state) = said.trim().rsplit_once(char::is_whitespace)?;
    (!state.starts_with('Z')).then(|| at.trim().to_string())
}

/// Whether a process that was killed has threads still, which may hold its files and doors for a
/// moment.
pub fn is_ending(pid: u32) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task"));
    started(pid).is_none() && threads.is_ok_and(|threads| threads.count() > 1)
}

/// Field 22 of a `/proc/PID/stat`; `None` for a process that has ended and was not waited for.
fn start_tick(stat: &str) -> Option<u64> {
    // The name in parentheses may hold blanks; fields are counted from behind it.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    let is_over = matches!(fields.next()?, "Z" | "X");
    if is_over { None } else { fields.nth(18)?.parse().ok() }
}

/// The path of the running program; empty if unknown.
pub fn executable() -> String {
    std::env::current_exe().map(|path| path.display().to_string()).unwrap_or_default()
}

/// User and system time of a `/proc/self/stat`, fields 14 and 15, in ticks of 10 ms: the unit
/// the kernel shows to programs on every architecture we build for.
fn times(stat: &str) -> (u64, u64) {
    const TICK_US: u64 = 10_000;
    // The name in parentheses may hold blanks; fields are counted from behind it.
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let mut ticks =
        fields.split_ascii_whitespace().skip(11).map(|field| field.parse().unwrap_or(0_u64));
    let mut next = || ticks.next().unwrap_or(0).saturating_mul(TICK_US);
    (next(), next())
}

/// Bytes of a line such as `VmRSS:  1234 kB`; 0 if there is none.
fn kilobytes(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|line| line.split_ascii_whitespace().next());
    number.and_then(|number| number.parse::<u64>().ok()).unwrap_or(0).saturating_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_behind_a_name_with_blanks() {
        let stat = "1 (a ) b) S 1 1 1 0 -1 4194560 5 6 7 8 250 31 0 0 20 0 1 0 9";
        assert_eq!(times(stat), (2_500_000, 310_000));
        assert_eq!(times(""), (0, 0));
        let long = "1 (a ) b) S 1 1 1 0 -1 4194560 5 6 7 8 250 31 0 0 20 0 1 0 9988 7";
        assert_eq!(start_tick(long), Some(9988));
        assert_eq!(start_tick(&long.replace(" S ", " Z ")), None);
        assert_eq!(start_tick(""), None);
        assert_eq!(kilobytes("VmPeak: 9 kB\nVmRSS:\t  12 kB\n", "VmRSS:"), 12 * 1024);
        assert_eq!(kilobytes("", "VmRSS:"), 0);
    }

    #[test]
    fn a_process_is_told_from_one_that_has_ended() {
        let own = started(std::process::id());
        assert!(own.is_some());
        assert_eq!(own, started(std::process::id()));
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let id = child.id();
        child.wait().unwrap();
        assert_eq!(started(id).filter(|at| Some(at) != own.as_ref()), None);
    }
}
