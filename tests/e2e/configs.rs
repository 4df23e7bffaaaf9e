//! Every example under `configs/` is loaded and run.

use std::path::Path;

use crate::support::proxy::{certificate, folder};
use crate::support::{Proxy, until};

#[test]
fn every_example_loads_and_runs() {
    let configs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs");
    let mut seen = 0;
    for entry in std::fs::read_dir(configs).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        seen += 1;
        let folder = folder();
        certificate(folder.path());
        let file = folder.path().join(path.file_name().unwrap());
        std::fs::copy(&path, &file).unwrap();
        let text = std::fs::read_to_string(&file).unwrap();
        let table: toml::Table = text.parse().unwrap();
        // The same file, on ports that are free.
        let mut sets = Vec::new();
        for name in table["listeners"].as_table().unwrap().keys() {
            sets.extend(["--set".to_owned(), format!("listeners.{name}.bind=127.0.0.1:0")]);
        }
        if table.contains_key("api") {
            sets.extend(["--set".to_owned(), "api.bind=127.0.0.1:0".to_owned()]);
        }
        let sets: Vec<_> = sets.iter().map(String::as_str).collect();
        let proxy = Proxy::run(&folder, file.clone(), &sets);
        for name in table["listeners"].as_table().unwrap().keys() {
            until("it accepts", || std::net::TcpStream::connect(proxy.addr(name)).ok());
        }
        proxy.signal("TERM");
        let (status, log) = proxy.wait();
        assert!(status.success(), "{}: {log}", file.display());
        // As it stands, but for the file's own port, it is right too.
        let (ok, _, error) = crate::support::proxy::command(&["check", "-c", file.to_str().unwrap()]);
        assert!(ok, "{error}");
    }
    assert!(seen >= 4, "{seen} examples");
}
