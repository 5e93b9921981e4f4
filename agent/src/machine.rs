//! How busy this machine is, and what it allows: what tells a slow target from a slow generator.
//!
//! Linux says all of it in files; elsewhere, and where a file can't be read, a figure is simply not there and the send
//! lag has to speak for itself.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::time::Instant;

/// Load of the machine in one window, each in thousandths.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct MachineLoad {
    /// CPU time that was not idle, of the machine's.
    pub(crate) busy_permille: u32,
    /// CPU time that the hypervisor gave to others, of the machine's.
    pub(crate) steal_permille: u32,
    /// Time for which a CPU quota held this process back, of the window.
    pub(crate) throttled_permille: u32,
}

/// Measures [`MachineLoad`] from lap to lap.
pub(crate) struct MachineMeter {
    last: Reading,
}

#[derive(Clone, Copy)]
struct Reading {
    at: Instant,
    cpu: CpuTimes,
    throttled: Duration,
}

/// CPU times since boot, in clock ticks (proc_stat(5)).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct CpuTimes {
    idle: u64,
    steal: u64,
    all: u64,
}

impl MachineMeter {
    pub(crate) fn new() -> Self {
        MachineMeter { last: Reading::take() }
    }

    /// The load since the last lap.
    pub(crate) fn lap(&mut self) -> MachineLoad {
        let now = Reading::take();
        let last = std::mem::replace(&mut self.last, now);
        let all = now.cpu.all.saturating_sub(last.cpu.all);
        let idle = now.cpu.idle.saturating_sub(last.cpu.idle);
        let window = now.at.saturating_duration_since(last.at);
        MachineLoad {
            busy_permille: permille(all.saturating_sub(idle), all),
            steal_permille: permille(now.cpu.steal.saturating_sub(last.cpu.steal), all),
            throttled_permille: permille(
                crate::clock::micros(now.throttled.saturating_sub(last.throttled)),
                crate::clock::micros(window),
            ),
        }
    }
}

impl Reading {
    fn take() -> Self {
        let read = |path: &Path| std::fs::read_to_string(path).unwrap_or_default();
        // Looked up each time: a process may be moved to another group while it runs.
        let throttling = throttling_file(&read(Path::new("/proc/self/cgroup")));
        Reading {
            at: Instant::now(),
            cpu: cpu_times(&read(Path::new("/proc/stat"))),
            throttled: throttling.map_or(Duration::ZERO, |path| throttled(&read(&path))),
        }
    }
}

/// Part of the whole in thousandths, at most 1000.
pub(crate) fn permille(part: u64, whole: u64) -> u32 {
    let permille = part.saturating_mul(1000).checked_div(whole).unwrap_or(0).min(1000);
    u32::try_from(permille).unwrap_or(1000)
}

/// The first line of /proc/stat: user nice system idle iowait irq softirq steal.
fn cpu_times(stat: &str) -> CpuTimes {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu ")).unwrap_or_default();
    let times: Vec<u64> = line.split_whitespace().take(8).filter_map(|time| time.parse().ok()).collect();
    let [_, _, _, idle, iowait, _, _, steal] = times[..] else { return CpuTimes::default() };
    CpuTimes { idle: idle + iowait, steal, all: times.iter().sum() }
}

/// The `cpu.stat` of this process's control group, from /proc/self/cgroup (cgroups(7)): version 1 names the controllers
/// of each hierarchy, version 2 has one hierarchy numbered 0.
fn throttling_file(cgroup: &str) -> Option<PathBuf> {
    let candidates = cgroup.lines().flat_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let root = match controllers {
            "" => "/sys/fs/cgroup",
            _ if controllers.split(',').any(|controller| controller == "cpu") => "/sys/fs/cgroup/cpu",
            _ => return Vec::new(),
        };
        // Within a container the path may be the host's, while its own group is mounted at the root.
        [path, "/"].iter().map(|path| PathBuf::from(format!("{root}{path}/cpu.stat"))).collect()
    });
    candidates.into_iter().find(|file| std::fs::read_to_string(file).is_ok_and(|text| text.contains("throttled_")))
}

/// Time for which a group was held back: `throttled_usec` in version 2, `throttled_time` in nanoseconds in version 1.
fn throttled(cpu_stat: &str) -> Duration {
    let value = |name: &str| cpu_stat.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok());
    let microseconds = value("throttled_usec ").map(Duration::from_micros);
    microseconds.or_else(|| value("throttled_time ").map(Duration::from_nanos)).unwrap_or_default()
}

/// Time for which the calling thread was ready to run but had no CPU, since it began.
pub(crate) fn thread_waited() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    // Time on the CPU, time waiting for it (both in nanoseconds), time slices.
    let waited = text.split_whitespace().nth(1).and_then(|ns| ns.parse().ok());
    waited.map_or(Duration::ZERO, Duration::from_nanos)
}

/// Allows this process as many open files as it may have, and says how many that is; none where there is no limit.
pub fn raise_open_files() -> Option<u64> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum && setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).is_err() {
        return current;
    }
    maximum
}

/// Ports that this machine's connections may leave from, to one address and port of a target.
pub(crate) fn local_ports() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok()?;
    let mut ends = text.split_whitespace().filter_map(|port| port.parse::<u64>().ok());
    let (first, last) = (ends.next()?, ends.next()?);
    Some(last.saturating_sub(first) + 1)
}

/// Memory that this machine could give away without swapping, in bytes (proc_meminfo(5)).
pub(crate) fn memory_available() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_from_the_first_line() {
        let stat = "cpu  100 1 50 800 20 0 5 24 0 0\ncpu0 1 1 1 1 1 1 1 1 0 0\nintr 5\n";
        assert_eq!(cpu_times(stat), CpuTimes { idle: 820, steal: 24, all: 1000 });
        assert_eq!(cpu_times("garbage"), CpuTimes::default());
    }

    #[test]
    fn both_versions_of_control_groups_tell_how_long_they_held_back() {
        assert_eq!(throttled("usage_usec 9\nnr_throttled 2\nthrottled_usec 1500\n"), Duration::from_micros(1500));
        assert_eq!(throttled("nr_periods 4\nnr_throttled 2\nthrottled_time 1500\n"), Duration::from_nanos(1500));
        assert_eq!(throttled(""), Duration::ZERO);
    }

    #[test]
    fn parts_of_nothing_are_nothing_and_none_is_above_the_whole() {
        assert_eq!((permille(1, 0), permille(1, 4), permille(9, 4)), (0, 250, 1000));
    }
}
