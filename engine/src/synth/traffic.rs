//! The shape of the synthetic product: its services and routes, cohorts, regions and statuses.

use super::random::Random;

/// One route of one service.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Route {
    /// The service that serves it.
    pub(crate) service: &'static str,
    /// Method and path template.
    pub(crate) route: &'static str,
    /// Its share of the requests, in arbitrary units.
    pub(crate) weight: u32,
    /// The median of its latency.
    pub(crate) latency_us: u32,
}

const fn route(service: &'static str, route: &'static str, weight: u32, latency_us: u32) -> Route {
    Route { service, route, weight, latency_us }
}

/// Every route; those of one service stand together.
pub(crate) const ROUTES: [Route; 14] = [
    route("gateway", "POST /v1/session", 18, 9_000),
    route("gateway", "GET /v1/ping", 6, 1_200),
    route("checkout", "POST /v1/orders", 9, 62_000),
    route("checkout", "GET /v1/orders/{id}", 14, 21_000),
    route("checkout", "POST /v1/payments", 5, 140_000),
    route("catalog", "GET /v1/items", 16, 18_000),
    route("catalog", "GET /v1/items/{id}", 12, 11_000),
    route("search", "GET /v2/query", 8, 85_000),
    route("search", "GET /v2/suggest", 4, 12_000),
    route("accounts", "GET /v1/users/{id}", 6, 14_000),
    route("accounts", "POST /v1/tokens", 3, 32_000),
    route("reports", "POST /v1/exports", 1, 900_000),
    route("reports", "GET /v1/exports/{id}", 2, 40_000),
    route("webhooks", "POST /v1/deliveries", 2, 48_000),
];

/// The services in the order of [`ROUTES`].
pub(crate) const SERVICES: [&str; 7] =
    ["gateway", "checkout", "catalog", "search", "accounts", "reports", "webhooks"];

/// Who gets a release when: the first cohort first.
pub(crate) const COHORTS: [&str; 3] = ["canary", "beta", "stable"];

/// The share of the customers in each cohort up to and including it.
pub(crate) const COHORT_SHARES: [f64; 3] = [0.05, 0.20, 1.0];

/// Where requests are served.
pub(crate) const REGIONS: [&str; 4] = ["us-east-1", "us-west-2", "eu-west-1", "ap-south-1"];

/// The standard deviation of the logarithm of a latency.
pub(crate) const LATENCY_SIGMA: f64 = 0.6;

/// Statuses of requests that did not fail, with their share of 1,000.
const GOOD_STATUSES: [(u16, u64); 8] =
    [(200, 880), (201, 50), (204, 30), (304, 18), (401, 4), (404, 10), (400, 6), (429, 2)];

/// Statuses of requests that failed, with their share of 100.
const BAD_STATUSES: [(u16, u64); 4] = [(500, 40), (502, 15), (503, 30), (504, 15)];

/// The status of a request that did not fail.
#[inline]
pub(crate) fn good_status(random: &mut Random) -> u16 {
    status(&GOOD_STATUSES, random.below(1_000))
}

/// The status of a request that failed.
pub(crate) fn bad_status(random: &mut Random) -> u16 {
    status(&BAD_STATUSES, random.below(100))
}

#[inline]
fn status(statuses: &[(u16, u64)], drawn: u64) -> u16 {
    let mut rest = drawn;
    for (status, share) in statuses {
        if rest < *share {
            return *status;
        }
        rest -= share;
    }
    unreachable!("the shares add up to the limit that was drawn from")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_complete() {
        assert_eq!(GOOD_STATUSES.iter().map(|(_, share)| share).sum::<u64>(), 1_000);
        assert_eq!(BAD_STATUSES.iter().map(|(_, share)| share).sum::<u64>(), 100);
        let mut services: Vec<&str> = ROUTES.iter().map(|route| route.service).collect();
        services.dedup();
        assert_eq!(services, SERVICES);
    }
}
