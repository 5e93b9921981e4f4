//! Control groups that hold processes of a test back.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, bail};

/// Period over which a quota counts: long, so that a group that is held back is held back for long.
const PERIOD: Duration = Duration::from_millis(500);

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A group with a quota of CPU time; removed when dropped, which its processes have to have left by then.
pub(crate) struct CpuGroup {
    path: PathBuf,
}

impl CpuGroup {
    /// A group that may use so much CPU time of every half second.
    ///
    /// # Errors
    /// When this process may not make one.
    pub(crate) fn with_quota(quota: Duration) -> anyhow::Result<Self> {
        let name = format!("groundswell-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let (quota, period) = (quota.as_micros().to_string(), PERIOD.as_micros().to_string());
        // Version 1 has a hierarchy for each controller, version 2 one for all.
        let first = Path::new("/sys/fs/cgroup/cpu");
        if first.join("cpu.cfs_quota_us").exists() || first.join("tasks").exists() {
            let group = CpuGroup::make(first.join(name))?;
            group.set("cpu.cfs_period_us", &period)?;
            group.set("cpu.cfs_quota_us", &quota)?;
            return Ok(group);
        }
        let group = CpuGroup::make(Path::new("/sys/fs/cgroup").join(name))?;
        group.set("cpu.max", &format!("{quota} {period}"))?;
        Ok(group)
    }

    fn make(path: PathBuf) -> anyhow::Result<Self> {
        std::fs::create_dir(&path).with_context(|| format!("can't make {}", path.display()))?;
        Ok(CpuGroup { path })
    }

    fn set(&self, name: &str, value: &str) -> anyhow::Result<()> {
        let file = self.path.join(name);
        if !file.exists() {
            bail!("there is no {}", file.display());
        }
        std::fs::write(&file, value).with_context(|| format!("can't write {}", file.display()))
    }

    /// Puts a process with all its threads into the group.
    ///
    /// # Errors
    /// When that is not allowed.
    pub(crate) fn take(&self, pid: u32) -> anyhow::Result<()> {
        self.set("cgroup.procs", &pid.to_string())
    }
}

impl Drop for CpuGroup {
    fn drop(&mut self) {
        // A process that was killed a moment ago may still be in it.
        for _ in 0..50 {
            if std::fs::remove_dir(&self.path).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}
