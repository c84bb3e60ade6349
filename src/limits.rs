//! How much memory there is: the limits of the control groups this process is in, and what the
//! machine has. The least of them counts.
//!
//! The kernel's texts are read by pure functions: version 2 has one hierarchy, version 1 one for
//! memory, and both may stand beside each other. A container may see its own group as the root
//! of the hierarchy while `/proc/self/cgroup` still names its place on the host, so every group
//! up to the root is asked, and those that are not there are passed over.

use std::path::{Path, PathBuf};

use anyhow::Context;
use ninefold_engine::config::{Budget, Config, Limit};
use ninefold_engine::pipeline::Pipeline;
use ninefold_engine::pipeline::dedupe::ID_BYTES;
use ninefold_engine::pipeline::memory::Bounds;

/// Version 1 writes its largest number where there is no limit; this much nobody has.
const NO_LIMIT_BYTES: u64 = 1 << 60;

/// The memory that a configuration gives each part, on this machine.
///
/// # Errors
/// It does not fit.
pub fn budget(config: &Config) -> anyhow::Result<Budget> {
    let dedupes = config.dedupe_window_bytes > 0 || config.dedupe_window_records > 0;
    let budget = config.memory.budget(limit().as_ref(), dedupes);
    budget.context("the memory is too small")
}

/// Bounds the memory of a pipeline.
pub fn bound(pipeline: &mut Pipeline, budget: &Budget, config: &Config) {
    let bytes = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
    pipeline.bound(Bounds {
        uncommitted_bytes: bytes(budget.uncommitted),
        series_bytes: bytes(budget.series),
        new_customers_per_minute: config.memory.new_customers_per_minute,
    });
}

/// How many ids a dedupe window holds.
pub fn dedupe_ids_max(config: &Config) -> usize {
    usize::try_from(config.memory.dedupe_bytes).unwrap_or(usize::MAX) / ID_BYTES
}

/// The least limit that this process is under; `None` where nothing says.
fn limit() -> Option<Limit> {
    let read = |path: &Path| std::fs::read_to_string(path).ok();
    let groups = read(Path::new("/proc/self/cgroup")).unwrap_or_default();
    let of_group = |path: PathBuf| {
        let bytes = group_limit(&read(&path)?)?;
        Some(Limit { bytes, origin: path.display().to_string() })
    };
    let machine = read(Path::new("/proc/meminfo")).and_then(|text| machine_bytes(&text));
    let machine = machine.map(|bytes| Limit { bytes, origin: "/proc/meminfo".to_owned() });
    let groups = limit_files(&groups).into_iter().filter_map(of_group);
    groups.chain(machine).min_by_key(|limit| limit.bytes)
}

/// The files that may hold a limit, by the text of `/proc/self/cgroup`.
fn limit_files(groups: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(group)) = (parts.next(), parts.next()) else { continue };
        let roots: &[(&str, &str)] = if controllers.is_empty() {
            &[("/sys/fs/cgroup", "memory.max"), ("/sys/fs/cgroup/unified", "memory.max")]
        } else if controllers.split(',').any(|controller| controller == "memory") {
            &[("/sys/fs/cgroup/memory", "memory.limit_in_bytes")]
        } else {
            &[]
        };
        for (root, file) in roots {
            let group = Path::new(group.trim_start_matches('/'));
            files.extend(group.ancestors().map(|group| Path::new(root).join(group).join(file)));
        }
    }
    files
}

/// The limit of a group, by the text of its file.
fn group_limit(text: &str) -> Option<u64> {
    text.trim().parse().ok().filter(|bytes| *bytes < NO_LIMIT_BYTES)
}

/// What the machine has, by the text of `/proc/meminfo`.
fn machine_bytes(text: &str) -> Option<u64> {
    let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = total.trim().strip_suffix("kB")?.trim_end().parse().ok()?;
    kib.checked_mul(1_024)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(groups: &str) -> Vec<String> {
        limit_files(groups).iter().map(|path| path.display().to_string()).collect()
    }

    #[test]
    fn version_2_has_one_hierarchy() {
        let expected = [
            "/sys/fs/cgroup/system.slice/ninefold.service/memory.max",
            "/sys/fs/cgroup/system.slice/memory.max",
            "/sys/fs/cgroup/memory.max",
        ];
        assert_eq!(files("0::/system.slice/ninefold.service\n")[..3], expected);
        assert_eq!(files("0::/\n")[0], "/sys/fs/cgroup/memory.max");
    }

    #[test]
    fn version_1_has_one_for_memory() {
        let groups = "5:cpu,cpuacct:/x\n4:memory:/docker/abc\n1:name=systemd:/y\nnonsense\n";
        let expected = [
            "/sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes",
            "/sys/fs/cgroup/memory/docker/memory.limit_in_bytes",
            "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        ];
        assert_eq!(files(groups), expected);
    }

    #[test]
    fn numbers_are_read_and_no_limit_is_none() {
        assert_eq!(group_limit("4294967296\n"), Some(4 << 30));
        assert_eq!(group_limit("max\n"), None);
        assert_eq!(group_limit("9223372036854771712\n"), None);
        assert_eq!(group_limit(""), None);
        let meminfo = "MemTotal:       24576 kB\nMemFree:        1 kB\n";
        assert_eq!(machine_bytes(meminfo), Some(24 << 20));
        assert_eq!(machine_bytes("MemFree: 1 kB\n"), None);
    }

    #[test]
    fn this_machine_says_what_it_has() {
        if !Path::new("/proc/meminfo").exists() {
            println!("skipped: no /proc/meminfo, so this is no Linux");
            return;
        }
        assert!(limit().is_some_and(|limit| limit.bytes > 1 << 20));
    }
}
