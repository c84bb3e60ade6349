use ninefold_engine::*;
use std::path::Path;
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
fn main() {
    let args: Vec<String> = std::env::args().collect();
    let t = std::time::Instant::now();
    let table = table::Table::open_or_create(Path::new(&args[1])).unwrap();
    let options = pipeline::Options { slis: Default::default(), decode: Default::default(), dimension_values_max: 1000, dedupe_window_bytes: 0, epoch_events_max: args.get(3).map_or(4_000_000, |a| a.parse().unwrap()) };
    let mut p = pipeline::Pipeline::new(options, table, false, 7);
    let path = Path::new(&args[2]);
    let mut parts = vec![];
    if let Some(o) = source::file::open(path, &p.known().unwrap()).unwrap() {
        parts.push(o.partition.clone());
        p.replay(path, o, &|_| ()).unwrap();
        eprintln!("read {:?}", t.elapsed());
        p.commit(vec![]).unwrap();
        eprintln!("committed {:?}", t.elapsed());
    }
    println!("{}", serde_json::to_string(&p.summary(&parts).unwrap()).unwrap());
    eprintln!("all {:?}", t.elapsed());
}
