//! OpenSLO documents as a configuration: our own, and those that others publish.

#[path = "common/session.rs"]
mod session;

use session::{Ended, Session, fixture};

fn import(path: &std::path::Path) -> Ended {
    Session::new().run_words(&["import", "openslo", path.to_str().expect("a path of text")])
}

#[test]
fn documents_become_a_configuration_and_what_is_not_in_it_is_listed() {
    let ended = import(&fixture("openslo/shop.yaml"));
    assert_eq!(ended.code, Some(0), "{ended}");
    let stored = |name: &str| std::fs::read_to_string(fixture("openslo").join(name)).unwrap();
    assert_eq!(ended.stdout, stored("shop.toml"));
    assert_eq!(ended.stderr, stored("shop.unsupported"));
    let session = Session::new();
    session.write("shop.toml", ended.stdout.as_bytes());
    let told = session.run("check shop.toml").ok();
    assert!(told.contains("0.9995 of shop/checkout-1 over 28d"), "{told}");
}

#[test]
fn a_file_without_anything_usable_is_a_failure_that_says_why() {
    let session = Session::new();
    session.write("pod.yaml", b"apiVersion: v1\nkind: Pod\n");
    session.run("import openslo pod.yaml").fails(1, &["nothing can be imported", "\"v1\""]);
    session.write("broken.yaml", b"a: [");
    session.run("import openslo broken.yaml").fails(1, &["broken.yaml", "no YAML"]);
    session.run("import openslo nowhere.yaml").fails(1, &["cannot read nowhere.yaml"]);
    let piped = session.pipe(b"kind: Pod\n", "import openslo -");
    piped.fails(1, &["nothing can be imported"]);
}

#[test]
fn documents_of_others_are_taken_or_refused_by_name() {
    let default = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data");
    let data = std::env::var_os("NINEFOLD_DATA").map_or(default, Into::into);
    if !data.is_dir() {
        println!("skipped: no data in {}", data.display());
        return;
    }
    let import = |name: &str| import(&data.join("slo-peers").join(name));
    let search = import("openslo/budgeting-method-occurences-slo.yaml");
    let told = search.ok_with_notes();
    for line in
        ["threshold_ms = 500", "services = [\"web-shop\"]", "period = \"14d\"", "target = 0.99"]
    {
        assert!(told.lines().any(|known| known == line), "{line} is not in {told}");
    }
    let sloth = import("sloth/in-openslo.yaml").ok_with_notes();
    assert!(sloth.contains("period = \"30d\"\ntarget = 0.999\n"), "{sloth}");
    for name in [
        "budgeting-method-timeslices-slo.yaml",
        "budgeting-method-ratio-timeslices.yaml",
        "treat-low-traffic-as-equally-important-timeslices-slo.yaml",
    ] {
        import(&format!("openslo/{name}")).fails(1, &["nothing can be imported", "imeslices"]);
    }
}
