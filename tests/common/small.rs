//! A disk that fills up soon: a file system in memory. Needs the right to mount; where that is
//! missing, [`Small::mount`] prints `skipped: why`.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A small file system in memory; unmounted at the end.
pub struct Small(PathBuf);

impl Small {
    /// One of `size`, such as `4m`, in a folder that is made where it is missing; `None` where
    /// this machine does not let us mount one.
    pub fn mount(path: &Path, size: &str) -> Option<Small> {
        std::fs::create_dir_all(path).expect("writable");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(path);
        let mounted = mount.output().is_ok_and(|output| output.status.success());
        if !mounted {
            println!("skipped: no file system can be mounted here");
        }
        mounted.then(|| Small(path.to_owned()))
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("-l").arg(&self.0).status();
        assert!(unmounted.is_ok_and(|status| status.success()), "it was mounted");
    }
}
