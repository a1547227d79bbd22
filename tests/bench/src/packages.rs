//! redis-server and memcached: those of the machine, else Debian's packages unpacked into the cache folder.
//!
//! Nothing is installed. The packages are fetched by `apt-get download` and unpacked by `dpkg-deb -x`, with
//! the libraries that they name and the machine lacks.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

/// The two programs and where their libraries are.
#[derive(Clone, Debug)]
pub struct Programs {
    /// `redis-server`.
    pub redis: PathBuf,
    /// `memcached`.
    pub memcached: PathBuf,
    /// Folders for LD_LIBRARY_PATH; empty for installed programs.
    pub libraries: String,
}

const PACKAGES: [&str; 3] = ["redis-server", "redis-tools", "memcached"];

/// Finds both programs, fetching them into `cache` when the machine has not got them.
pub fn find(cache: &Path) -> Result<Programs> {
    if let (Some(redis), Some(memcached)) = (installed("redis-server"), installed("memcached")) {
        return Ok(Programs { redis, memcached, libraries: String::new() });
    }
    let root = cache.join("root");
    let programs = Programs {
        redis: root.join("usr/bin/redis-server"),
        memcached: root.join("usr/bin/memcached"),
        libraries: library_folders(&root),
    };
    if programs.redis.exists() && programs.memcached.exists() {
        return Ok(programs);
    }
    fetch(cache, &root)?;
    ensure!(
        programs.redis.exists() && programs.memcached.exists(),
        "the packages hold no /usr/bin/redis-server and /usr/bin/memcached: install both by hand"
    );
    Ok(Programs { libraries: library_folders(&root), ..programs })
}

fn installed(program: &str) -> Option<PathBuf> {
    ["/usr/bin", "/usr/local/bin", "/usr/sbin"]
        .iter()
        .map(|folder| Path::new(folder).join(program))
        .find(|p| p.exists())
}

fn fetch(cache: &Path, root: &Path) -> Result<()> {
    let downloads = cache.join("deb");
    fs::create_dir_all(&downloads).with_context(|| format!("cannot make {}", downloads.display()))?;
    fs::create_dir_all(root)?;
    let mut wanted: Vec<String> = PACKAGES.iter().map(|&name| name.to_owned()).collect();
    wanted.extend(missing_libraries()?);
    eprintln!("fetching Debian packages: {}", wanted.join(" "));
    let output = Command::new("apt-get").arg("download").args(&wanted).current_dir(&downloads).output();
    let output = output.context("cannot run apt-get: install redis-server and memcached by hand")?;
    if !output.status.success() {
        bail!(
            "apt-get download failed: {}\nrun 'apt-get update' as root and try again, or install redis-server and memcached",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    for entry in fs::read_dir(&downloads)? {
        let package = entry?.path();
        let status =
            Command::new("dpkg-deb").arg("-x").arg(&package).arg(root).status().context("cannot run dpkg-deb")?;
        ensure!(status.success(), "dpkg-deb cannot unpack {}", package.display());
    }
    Ok(())
}

/// Libraries that the packages depend on and that are not installed.
fn missing_libraries() -> Result<Vec<String>> {
    let output = Command::new("apt-cache").arg("depends").args(PACKAGES).output().context("cannot run apt-cache")?;
    let mut libraries: Vec<String> = String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Depends: "))
        .filter(|name| name.starts_with("lib") && !is_installed(name))
        .map(str::to_owned)
        .collect();
    libraries.sort();
    libraries.dedup();
    Ok(libraries)
}

fn is_installed(package: &str) -> bool {
    let query = Command::new("dpkg-query").args(["-W", "-f", "${db:Status-Status}", package]).output();
    query.is_ok_and(|output| output.stdout == b"installed")
}

/// Folders below `root` that hold shared libraries, joined by colons.
fn library_folders(root: &Path) -> String {
    let mut folders = vec![root.join("usr/lib"), root.join("lib")];
    for parent in ["usr/lib", "lib"] {
        let entries = fs::read_dir(root.join(parent)).into_iter().flatten().flatten();
        folders.extend(entries.map(|entry| entry.path()).filter(|path| path.to_string_lossy().ends_with("-linux-gnu")));
    }
    folders.iter().map(|folder| folder.to_string_lossy()).collect::<Vec<_>>().join(":")
}
