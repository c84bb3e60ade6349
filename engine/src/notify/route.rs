//! Routes: which receivers are told of a notice, in what company, and how often.
//!
//! Routes are tried in their order; the first that picks a notice decides, unless it says
//! `continue`. Without any, every receiver is told of everything. A receiver hears of a notice by
//! the first deciding route that names it, so never twice. Pure.

use super::matcher::{Matcher, Scope};

/// One route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// What it picks.
    pub matcher: Matcher,
    /// Who is told, by name; empty = nobody.
    pub receivers: Vec<String>,
    /// Whether the routes behind it are tried as well.
    pub goes_on: bool,
    /// How the notices are put together.
    pub grouping: Grouping,
}

/// How notices of one receiver are put together in messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grouping {
    /// Labels whose notices of the same values go in one message.
    pub by: Vec<String>,
    /// How long a new group waits for company, in milliseconds.
    pub wait_ms: i64,
    /// The shortest time between two messages of a group, in milliseconds.
    pub interval_ms: i64,
    /// Tell again of what still fires after so many milliseconds; `None` = once is enough.
    pub repeat_ms: Option<i64>,
}

impl Default for Grouping {
    /// By service, without a wait: an alert is out within a second.
    fn default() -> Grouping {
        Grouping { by: vec!["service".to_owned()], wait_ms: 0, interval_ms: 0, repeat_ms: None }
    }
}

/// All routes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Routes {
    /// In the order in which they are tried; empty = everything goes to everybody.
    pub list: Vec<Route>,
    /// What holds where there are none.
    pub default: Grouping,
}

impl Routes {
    /// How `receiver` is told of a notice of `scope`; `None` = not at all.
    pub fn of<'a>(&'a self, receiver: &str, scope: &Scope) -> Option<&'a Grouping> {
        if self.list.is_empty() {
            return Some(&self.default);
        }
        for route in self.list.iter().filter(|route| route.matcher.picks(scope)) {
            if route.receivers.iter().any(|name| name == receiver) {
                return Some(&route.grouping);
            }
            if !route.goes_on {
                return None;
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(service: &str, receivers: &[&str], goes_on: bool) -> Route {
        let services = Some(service).filter(|service| !service.is_empty());
        Route {
            matcher: Matcher {
                services: services.into_iter().map(str::to_owned).collect(),
                ..Matcher::default()
            },
            receivers: receivers.iter().map(|name| (*name).to_owned()).collect(),
            goes_on,
            grouping: Grouping::default(),
        }
    }

    #[test]
    fn the_first_route_that_picks_decides_unless_it_goes_on() {
        let list = vec![
            route("api", &["log"], true),
            route("api", &["api-team"], false),
            route("lab", &[], false),
            route("", &["ops"], false),
        ];
        let routes = Routes { list, default: Grouping::default() };
        let told = |service: &str| {
            let scope = Scope { service: service.to_owned(), ..Scope::default() };
            let names = ["log", "api-team", "ops"].into_iter();
            names.filter(|name| routes.of(name, &scope).is_some()).collect::<Vec<_>>()
        };
        assert_eq!(told("api"), ["log", "api-team"]);
        assert_eq!(told("lab"), [""; 0]);
        assert_eq!(told("other"), ["ops"]);
        assert!(Routes::default().of("anybody", &Scope::default()).is_some());
    }
}
