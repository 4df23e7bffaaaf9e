//! What fetches packages and sources: git, pip, apt, from repositories that the site serves.

use std::path::Path;
use std::process::Command;

use super::{Run, World, client, missing, run, scripts};

/// Runs one of the tools that make a repository.
fn make(command: &mut Command) {
    run(command).ok();
}

/// The three ways by which each is told of an HTTP proxy, and which node then carries.
fn each_way(world: &World, bytes: u64, schemes: &[&str], fetch: impl Fn(&str) -> Run) {
    for scheme in schemes {
        world.carried(&world.pair.remote, bytes, || fetch(&world.local(scheme)).ok());
        if !scheme.starts_with("socks4") {
            world.carried(&world.lan, bytes, || fetch(&world.lan(scheme)).ok());
        }
    }
}

/// git as nobody in particular.
fn git(world: &World, proxy: &str) -> Command {
    let mut git = client("git");
    for name in ["AUTHOR", "COMMITTER"] {
        git.env(format!("GIT_{name}_NAME"), "a").env(format!("GIT_{name}_EMAIL"), "a@localhost");
    }
    git.env("GIT_SSL_CAINFO", world.site.certificate())
        .env("GIT_PROXY_SSL_CAINFO", world.remote_certificate());
    git.env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_TERMINAL_PROMPT", "0");
    // The default of 1 MiB would send a push in one piece; so it comes in chunks, after a probe.
    git.args(["-c", &format!("http.proxy={proxy}"), "-c", "http.postBuffer=65536"]);
    git
}

/// Puts half a megabyte that does not compress into a file, and commits it.
fn commit(world: &World, work: &Path, name: &str) {
    let mut noise = vec![0_u8; 500_000];
    getrandom::fill(&mut noise).unwrap();
    std::fs::write(work.join(name), noise).unwrap();
    for args in [&["add", "."][..], &["commit", "--quiet", "--message=one"]] {
        make(git(world, "").arg("-C").arg(work).args(args));
    }
}

/// A repository with one commit, to be fetched by either protocol and pushed to by one.
fn repository(world: &World) {
    let (work, bare) = (world.site.files().join("work"), world.site.files().join("repository.git"));
    make(git(world, "").args(["init", "--quiet", "--initial-branch=main"]).arg(&work));
    commit(world, &work, "noise");
    make(git(world, "").args(["clone", "--quiet", "--bare"]).args([&work, &bare]));
    let set = |args: &[&str]| make(git(world, "").arg("-C").arg(&bare).args(args));
    set(&["update-server-info"]);
    set(&["config", "http.receivepack", "true"]);
}

#[test]
fn git_clones_and_pushes() {
    let world = World::start();
    repository(&world);
    let clone = |url: &str, proxy: &str, push: bool| {
        let folder = tempfile::tempdir().unwrap();
        let work = folder.path().join("clone");
        let cloned = run(git(&world, proxy).args(["clone", "--quiet", url]).arg(&work));
        if cloned.code != 0 {
            return cloned;
        }
        assert_eq!(std::fs::metadata(work.join("noise")).unwrap().len(), 500_000);
        if push {
            commit(&world, &work, "more");
            let branch = format!("HEAD:refs/heads/{}", folder.path().file_name().unwrap().display())
                .replace("/.", "/");
            run(git(&world, proxy).arg("-C").arg(&work).args(["push", "--quiet", "origin", &branch])).ok();
        }
        cloned
    };
    for (url, push) in [
        (world.site.url("/files/repository.git"), false),
        (world.site.url("/git/repository.git"), true),
        (world.site.https("/git/repository.git"), true),
    ] {
        let schemes: &[&str] = if push { &["http", "socks5h"] } else { &["http"] };
        each_way(&world, 500_000, schemes, |proxy| clone(&url, proxy, push));
        world.carried(&world.pair.remote, 500_000, || clone(&url, &world.remote(), push).ok());
        let wrong = clone(&url, &format!("http://bob:wrong@{}", world.lan.addr("lan")), push);
        assert!(wrong.code != 0 && wrong.err.contains("407"), "{}", wrong.err);
    }
}

#[test]
fn pip_downloads() {
    let world = World::start();
    let python = scripts().join(".venv/bin/python");
    if !python.is_file() {
        missing("Python's virtual environment with pip");
    }
    // A wheel is a zip file with these in it; an index is a page with links.
    let wheel = "hops-1.0-py3-none-any.whl";
    let simple = world.site.files().join("simple/hops");
    std::fs::create_dir_all(&simple).unwrap();
    let script = "import sys, zipfile, os
with zipfile.ZipFile(sys.argv[1], 'w') as wheel:
    wheel.writestr('hops/__init__.py', 'noise = ' + repr(os.urandom(100_000)))
    wheel.writestr('hops-1.0.dist-info/METADATA', 'Metadata-Version: 2.1\\nName: hops\\nVersion: 1.0\\n')
    wheel.writestr('hops-1.0.dist-info/WHEEL', 'Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n')
    wheel.writestr('hops-1.0.dist-info/RECORD', '')
";
    make(client("env").arg(&python).args(["-c", script]).arg(simple.join(wheel)));
    std::fs::write(simple.join("index.html"), format!("<a href=\"{wheel}\">{wheel}</a>")).unwrap();
    let download = |index: &str, proxy: &str| {
        let folder = tempfile::tempdir().unwrap();
        let mut pip = client("env");
        pip.arg(&python).args([
            "-m",
            "pip",
            "download",
            "--isolated",
            "--no-cache-dir",
            "--no-deps",
            "--quiet",
        ]);
        pip.args([
            "--disable-pip-version-check",
            "--retries=0",
            "--index-url",
            index,
            "--proxy",
            proxy,
            "--cert",
        ]);
        pip.arg(world.certificates()).arg("--dest").arg(folder.path()).arg("hops");
        let done = run(pip.env("PIP_CONFIG_FILE", "/dev/null"));
        assert!(done.code != 0 || folder.path().join(wheel).is_file());
        done
    };
    for index in [world.site.url("/files/simple/"), world.site.https("/files/simple/")] {
        each_way(&world, 100_000, &["http"], |proxy| download(&index, proxy));
        world.carried(&world.pair.remote, 100_000, || download(&index, &world.remote()).ok());
    }
}

/// A package of a few hundred kilobytes and its index, unsigned.
fn archive(world: &World, folder: &Path) {
    let tree = folder.join("tree");
    std::fs::create_dir_all(tree.join("DEBIAN")).unwrap();
    let control =
        "Package: hops\nVersion: 1.0\nArchitecture: all\nMaintainer: a <a@localhost>\nDescription: hops\n";
    std::fs::write(tree.join("DEBIAN/control"), control).unwrap();
    std::fs::create_dir(tree.join("opt")).unwrap();
    let mut noise = vec![0_u8; 300_000];
    getrandom::fill(&mut noise).unwrap();
    std::fs::write(tree.join("opt/noise"), noise).unwrap();
    let files = world.site.files();
    make(client("dpkg-deb").args(["--root-owner-group", "--build"]).arg(&tree).arg(files.join("hops.deb")));
    let deb = std::fs::read(files.join("hops.deb")).unwrap();
    let sum = run(client("sha256sum").arg(files.join("hops.deb"))).text();
    let sum = sum.split(' ').next().unwrap();
    let index = format!("{control}Filename: ./hops.deb\nSize: {}\nSHA256: {sum}\n\n", deb.len());
    std::fs::write(files.join("Packages"), index).unwrap();
}

#[test]
fn apt_downloads() {
    let world = World::start();
    let made = tempfile::tempdir().unwrap();
    archive(&world, made.path());
    let get = |proxy: &str, origin: &str| {
        let root = tempfile::tempdir().unwrap();
        for folder in ["etc/apt.conf.d", "state/lists/partial", "cache/archives/partial", "here"] {
            std::fs::create_dir_all(root.path().join(folder)).unwrap();
        }
        std::fs::write(
            root.path().join("etc/sources.list"),
            format!("deb [trusted=yes] {origin}/files/ ./\n"),
        )
        .unwrap();
        std::fs::write(root.path().join("state/status"), "").unwrap();
        let at = |key: &str, path: &str| format!("{key}={}", root.path().join(path).display());
        let options = [
            at("Dir::Etc", "etc"),
            at("Dir::State", "state"),
            at("Dir::State::status", "state/status"),
            at("Dir::Cache", "cache"),
            format!("Acquire::http::Proxy={proxy}"),
            format!("Acquire::https::Proxy={proxy}"),
            format!("Acquire::https::CAInfo={}", world.certificates().display()),
            // apt has an account of its own, which may not read the test's folders.
            "APT::Sandbox::User=root".into(),
            "Acquire::Retries=0".into(),
        ];
        let apt = |args: &[&str]| {
            let mut apt = client("apt-get");
            for option in &options {
                apt.args(["-o", option]);
            }
            run(apt.args(args).current_dir(root.path().join("here")).env("APT_CONFIG", "/dev/null"))
        };
        let updated = apt(&["update", "--error-on=any"]);
        if updated.code != 0 {
            return updated;
        }
        let got = apt(&["download", "hops"]);
        assert!(got.code != 0 || root.path().join("here/hops_1.0_all.deb").is_file());
        got
    };
    for (origin, schemes) in
        [(world.site.url(""), &["http", "socks5h"][..]), (world.site.https(""), &["http"])]
    {
        each_way(&world, 300_000, schemes, |proxy| get(proxy, &origin));
        world.carried(&world.pair.remote, 300_000, || get(&world.remote(), &origin).ok());
        let wrong = get(&format!("http://bob:wrong@{}", world.lan.addr("lan")), &origin);
        assert!(wrong.code != 0 && wrong.err.contains("407"), "{}", wrong.err);
    }
}
