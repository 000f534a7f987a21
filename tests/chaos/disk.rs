//! A small disk: an ext4 file system in a file, or a tmpfs, mounted for a test.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// A mounted file system; unmounted when it is let go of.
pub(crate) struct SmallDisk {
    dir: TempDir,
}

fn run(program: &str, args: &[&str]) -> Result<(), String> {
    let output = Command::new(program).args(args).stdin(Stdio::null()).output();
    let output = output.map_err(|e| format!("{program}: {e}"))?;
    match output.status.success() {
        true => Ok(()),
        false => {
            let said = String::from_utf8_lossy(&output.stderr).trim().to_string();
            Err(format!("{program} {}: {said}", args.join(" ")))
        }
    }
}

impl SmallDisk {
    /// One of so many MiB, or why there can be none here.
    pub(crate) fn mount(mebibytes: u64) -> Result<SmallDisk, String> {
        let dir = tempfile::tempdir().map_err(|e| e.to_string())?;
        let (image, place) = (dir.path().join("image"), dir.path().join("disk"));
        std::fs::create_dir(&place).map_err(|e| e.to_string())?;
        let disk = SmallDisk { dir };
        let ext4 = || -> Result<(), String> {
            let file = std::fs::File::create(&image).map_err(|e| e.to_string())?;
            file.set_len(mebibytes << 20).map_err(|e| e.to_string())?;
            run("mkfs.ext4", &["-q", "-F", "-m", "0", &image.display().to_string()])?;
            let (image, place) = (image.display().to_string(), place.display().to_string());
            run("mount", &["-o", "loop", &image, &place])
        };
        let tmpfs = |why: String| {
            let size = format!("size={mebibytes}m");
            let place = place.display().to_string();
            let mounted = run("mount", &["-t", "tmpfs", "-o", &size, "tmpfs", &place]);
            mounted.map_err(|e| format!("{why}; {e}"))
        };
        ext4().or_else(tmpfs)?;
        Ok(disk)
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.dir.path().join("disk")
    }

    /// Takes all the room that is left, but for about `leave` bytes.
    pub(crate) fn fill(&self, leave: u64) {
        let ballast = self.ballast();
        let free = rustix::fs::statvfs(self.path()).unwrap();
        let free = free.f_bavail * free.f_frsize;
        let file = std::fs::OpenOptions::new().create(true).append(true).open(ballast).unwrap();
        let size = file.metadata().unwrap().len() + free.saturating_sub(leave);
        // What does not fit is not taken.
        _ = rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, size);
    }

    /// Gives the room back.
    pub(crate) fn empty(&self) {
        _ = std::fs::remove_file(self.ballast());
    }

    fn ballast(&self) -> PathBuf {
        self.path().join("ballast")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let place = self.path();
        if Path::new(&place).exists() {
            _ = run("umount", &["-l", &place.display().to_string()]);
        }
    }
}
