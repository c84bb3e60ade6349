//! Who the customers of the demo are, what they use, and what went wrong for them before.
//!
//! Ranks decide: a customer's traffic is `1 / rank`, its tier follows from its size, and the
//! past troubles strike fixed ranks, so that every seed tells the same story.

use super::{DAY_MS, MINUTE_MS, RELEASE_GOOD, RELEASE_OLD, SERVICE_BAD};
use crate::synth::numeric::Weighted;
use crate::synth::random::Random;
use crate::synth::traffic::{COHORTS, REGIONS, ROUTES};

/// All customers together, on average over the day.
const PER_SECOND: f64 = 1_200.0;

/// Ranks (from 0) of the customers in the cohort `canary`: large enough that their failures
/// are evidence within a minute, and of all tiers.
const CANARIES: [usize; 6] = [7, 12, 17, 23, 30, 38];
/// Every so many ranks a customer is in the cohort `beta`.
const BETA_EVERY: usize = 7;
/// The small customer that had a terrible week.
const TERRIBLE_WEEK: usize = 71;
/// The customer that was down for two and a half hours.
const BROKEN_PROMISE: usize = 44;
/// The customer that sends nothing any more.
const SILENT: usize = 90;

/// First words of the customers' names.
const STEMS: [&str; 100] = [
    "alderbrook",
    "amberfield",
    "anchorpoint",
    "arrowleaf",
    "ashgrove",
    "bayview",
    "beaconhill",
    "birchwood",
    "blackthorn",
    "bluefin",
    "boldstone",
    "brightwater",
    "brookside",
    "cedarline",
    "chalkhill",
    "cindervale",
    "clearpath",
    "cobaltreef",
    "copperleaf",
    "coralbay",
    "crestline",
    "dawnridge",
    "deepwell",
    "driftwood",
    "dunmore",
    "eastgate",
    "ebonytree",
    "elmhurst",
    "emberlight",
    "fairhaven",
    "falconridge",
    "fernhollow",
    "firstlight",
    "flintlock",
    "foxglove",
    "frostpine",
    "gladstone",
    "goldcrest",
    "granitebay",
    "greenmantle",
    "halcyon",
    "harborline",
    "hawthorn",
    "hazelmere",
    "heatherby",
    "highmoor",
    "hollowbrook",
    "ironwood",
    "ivorytower",
    "jadestone",
    "juniperhill",
    "kelpforest",
    "kestrel",
    "kingsbridge",
    "lakeshore",
    "lanternhall",
    "larkspur",
    "laurelwood",
    "limestone",
    "lindenhof",
    "longmeadow",
    "maplecourt",
    "marigold",
    "marshland",
    "meadowlark",
    "millbrook",
    "mistralpeak",
    "moonrise",
    "mossbank",
    "northfold",
    "oakenford",
    "oldharbor",
    "opalcreek",
    "orchardway",
    "osprey",
    "palegrass",
    "pebblebeach",
    "pinecrest",
    "quarrystone",
    "quietriver",
    "ravenscar",
    "redcliff",
    "ridgeway",
    "rosewood",
    "saltmarsh",
    "sandpiper",
    "silverbirch",
    "skylark",
    "slatehill",
    "southwind",
    "springvale",
    "starling",
    "stonebridge",
    "summerfield",
    "thistledown",
    "tidewater",
    "umbercove",
    "violetfen",
    "willowrun",
    "yarrowfield",
];

/// Last words of the customers' names.
const TRADES: [&str; 12] = [
    "analytics",
    "bank",
    "foods",
    "freight",
    "games",
    "health",
    "insurance",
    "labs",
    "media",
    "retail",
    "travel",
    "energy",
];

/// One customer of the demo.
#[derive(Clone, Debug, PartialEq)]
pub struct Customer {
    /// Its name, as in the events: lower case and hyphens.
    pub name: String,
    /// `enterprise` (the largest 10), `business` (the next 30) or `starter`.
    pub tier: &'static str,
    /// `canary` (6 customers), `beta` or `stable`.
    pub cohort: &'static str,
    /// Where it is served.
    pub region: &'static str,
    rank: usize,
}

/// The customers of a seed, the busiest first.
pub(super) fn customers(seed: u64) -> Vec<Customer> {
    let mut random = Random::new(seed, 12);
    let mut stems = STEMS;
    for last in (1..stems.len()).rev() {
        stems.swap(last, random.below(last as u64 + 1) as usize);
    }
    let customer = |(rank, stem): (usize, &str)| Customer {
        name: format!("{stem}-{}", random.one_of(&TRADES)),
        tier: tier(rank),
        cohort: cohort(rank),
        region: REGIONS[rank % REGIONS.len()],
        rank,
    };
    stems.into_iter().enumerate().map(customer).collect()
}

fn tier(rank: usize) -> &'static str {
    match rank {
        0..10 => "enterprise",
        10..40 => "business",
        _ => "starter",
    }
}

fn cohort(rank: usize) -> &'static str {
    let [canary, beta, stable] = COHORTS;
    if CANARIES.contains(&rank) {
        canary
    } else if rank % BETA_EVERY == 3 {
        beta
    } else {
        stable
    }
}

/// What a tier buys.
fn services(tier: &str) -> &'static [&'static str] {
    match tier {
        "enterprise" => &["catalog", "checkout", "search", "accounts", "gateway"],
        "business" => &["catalog", "checkout", "search", "accounts"],
        _ => &["catalog", "checkout", "search"],
    }
}

/// One customer on one service.
pub(super) struct Stream {
    rank: usize,
    region: &'static str,
    cohort: &'static str,
    /// Mean requests a second.
    pub(super) per_second: f64,
    /// The share of its requests that fail while all is well.
    pub(super) error_ratio: f64,
    /// Whether the bad release reaches it.
    pub(super) is_canary: bool,
    /// Every how many minutes it writes a line of its quiet past, and in which of them.
    pub(super) period_minutes: u32,
    pub(super) phase: u32,
    /// From behind the time to the route.
    pub(super) who: Vec<u8>,
    /// From behind the release to the region's end.
    pub(super) place: Vec<u8>,
    first_route: usize,
    routes: Weighted,
}

impl Stream {
    /// A route of its service, as an index into [`ROUTES`].
    pub(super) fn route(&self, random: &mut Random) -> usize {
        self.first_route + self.routes.draw(random)
    }

    /// Since when it has been silent, for the customer that is.
    pub(super) fn silent_from_ms(&self, now_ms: i64) -> Option<i64> {
        (self.rank == SILENT).then_some(now_ms - 2 * DAY_MS)
    }

    /// The release that served it then: the good one came nine days ago to the canaries, half
    /// a day later to the beta testers, and eight days ago to everyone.
    pub(super) fn past_release(&self, now_ms: i64, ts_ms: i64) -> &'static str {
        let [canary, beta, _] = COHORTS;
        let ago_ms = match self.cohort {
            cohort if cohort == canary => 9 * DAY_MS,
            cohort if cohort == beta => 17 * DAY_MS / 2,
            _ => 8 * DAY_MS,
        };
        if ts_ms >= now_ms - ago_ms { RELEASE_GOOD } else { RELEASE_OLD }
    }
}

/// The streams of all customers.
pub(super) fn streams(seed: u64, customers: &[Customer]) -> Vec<Stream> {
    let mut random = Random::new(seed, 13);
    let harmonic: f64 = (1..=customers.len()).map(|rank| 1.0 / rank as f64).sum();
    let mut streams = Vec::new();
    for customer in customers {
        let per_second = PER_SECOND / harmonic / (customer.rank + 1) as f64;
        let services = services(customer.tier);
        let total: u32 = services.iter().map(|service| weight(service)).sum();
        for service in services {
            let share = f64::from(weight(service)) / f64::from(total);
            streams.push(stream(customer, service, per_second * share, &mut random));
        }
    }
    streams
}

fn weight(service: &str) -> u32 {
    ROUTES.iter().filter(|route| route.service == service).map(|route| route.weight).sum()
}

fn stream(customer: &Customer, service: &str, per_second: f64, random: &mut Random) -> Stream {
    let first_route = ROUTES.iter().position(|route| route.service == service);
    let weights: Vec<f64> = ROUTES
        .iter()
        .filter(|route| route.service == service)
        .map(|route| f64::from(route.weight))
        .collect();
    let period_minutes = match customer.rank {
        0..5 => 6,
        5..30 => 24,
        _ => 40,
    };
    let Customer { name, cohort, region, .. } = customer;
    Stream {
        rank: customer.rank,
        region,
        cohort,
        per_second,
        error_ratio: 0.0002 + 0.0006 * random.ratio(),
        is_canary: *cohort == COHORTS[0] && service == SERVICE_BAD,
        period_minutes,
        phase: random.below(u64::from(period_minutes)) as u32,
        who: format!(",\"customer\":\"{name}\",\"service\":\"{service}\",\"route\":\"")
            .into_bytes(),
        place: format!("\",\"cohort\":\"{cohort}\",\"region\":\"{region}\"").into_bytes(),
        first_route: first_route.expect("every service has a route"),
        routes: Weighted::new(&weights),
    }
}

/// Something that went wrong before the demo began.
pub(super) struct Trouble {
    from_ms: i64,
    to_ms: i64,
    /// Of one customer, or of one region.
    rank: Option<usize>,
    region: Option<&'static str>,
    /// The share of the requests hit that failed.
    pub(super) error_ratio: f64,
    /// Factor on the latency of the requests hit.
    pub(super) slowness: u64,
    /// Every how many minutes a stream hit writes a line.
    pub(super) period_minutes: i64,
}

impl Trouble {
    /// Whether it hits the stream in the minute that begins at `minute_ms`.
    pub(super) fn covers(&self, stream: &Stream, minute_ms: i64) -> bool {
        (self.from_ms..self.to_ms).contains(&minute_ms)
            && self.rank.is_none_or(|rank| rank == stream.rank)
            && self.region.is_none_or(|region| region == stream.region)
    }
}

/// The troubles before `now_ms`, those of one customer first.
pub(super) fn troubles(now_ms: i64) -> Vec<Trouble> {
    let this_minute_ms = now_ms - now_ms.rem_euclid(MINUTE_MS);
    let at_ms =
        |days_ago: i64, minutes: i64| this_minute_ms - days_ago * DAY_MS + minutes * MINUTE_MS;
    vec![
        Trouble {
            from_ms: at_ms(11, 0),
            to_ms: at_ms(4, 0),
            rank: Some(TERRIBLE_WEEK),
            region: None,
            error_ratio: 0.04,
            slowness: 2,
            period_minutes: 5,
        },
        Trouble {
            from_ms: at_ms(6, 0),
            to_ms: at_ms(6, 150),
            rank: Some(BROKEN_PROMISE),
            region: None,
            error_ratio: 1.0,
            slowness: 1,
            period_minutes: 1,
        },
        Trouble {
            from_ms: at_ms(3, 0),
            to_ms: at_ms(3, 25),
            rank: None,
            region: Some("ap-south-1"),
            error_ratio: 0.15,
            slowness: 2,
            period_minutes: 1,
        },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hundred_customers_have_names_of_their_own() {
        let customers = customers(1);
        let names: std::collections::BTreeSet<&str> =
            customers.iter().map(|customer| customer.name.as_str()).collect();
        assert_eq!((customers.len(), names.len()), (100, 100));
        let canaries = customers.iter().filter(|customer| customer.cohort == "canary").count();
        assert_eq!(canaries, CANARIES.len());
    }

    #[test]
    fn streams_share_the_traffic_of_the_product() {
        let streams = streams(1, &customers(1));
        let total: f64 = streams.iter().map(|stream| stream.per_second).sum();
        assert!((total - PER_SECOND).abs() < 1e-6, "{total}");
        assert_eq!(streams.iter().filter(|stream| stream.is_canary).count(), CANARIES.len());
    }
}
