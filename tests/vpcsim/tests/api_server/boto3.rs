//! boto3 drives every action. Its parsers, paginators and retries are Amazon's own, and share nothing with ours.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::served::{Served, spec};

/// The release that the script is written against.
const BOTO3: &str = "boto3==1.44.5";

#[test]
fn boto3_drives_every_action() {
    let python = venv();
    let served = Served::start(&spec());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/boto3/drive.py");
    let run = Command::new(&python)
        .arg(&script)
        .arg(format!("http://{}", served.address))
        .args(vpcsim::api::served().map(|(action, _)| action))
        .env_remove("AWS_PROFILE")
        .env("AWS_CONFIG_FILE", "/dev/null")
        .env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .unwrap();
    let out = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success(), "{out}\n{}", String::from_utf8_lossy(&run.stderr));
    let called = served.cloud().stats().actions;
    for (action, _) in vpcsim::api::served() {
        assert!(
            called.get(action).is_some_and(|count| count.done > 0),
            "boto3 never got {action} done\n{out}"
        );
    }
}

/// A virtual environment with boto3, made once below `target/`.
fn venv() -> PathBuf {
    let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join("boto3-1.44.5");
    let (python, done) = (home.join("bin/python3"), home.join("complete"));
    if done.exists() {
        return python;
    }
    let made = Command::new("python3").args(["-m", "venv", "--clear"]).arg(&home).output();
    let made =
        made.unwrap_or_else(|error| panic!("cannot run python3 ({error}): install the package python3"));
    assert!(
        made.status.success(),
        "cannot make a virtual environment: install the package python3-venv\n{}{}",
        String::from_utf8_lossy(&made.stdout),
        String::from_utf8_lossy(&made.stderr)
    );
    let installed = Command::new(&python)
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", BOTO3])
        .output()
        .unwrap();
    assert!(
        installed.status.success(),
        "cannot install {BOTO3} with pip: it needs a Python package index\n{}",
        String::from_utf8_lossy(&installed.stderr)
    );
    std::fs::write(&done, "").unwrap();
    python
}
