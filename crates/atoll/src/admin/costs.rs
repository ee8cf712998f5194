//! Who uses the machine, and for whom: an estimate.
//!
//! What a service used is measured. What of it went into one route, or into the requests of one caller,
//! no kernel knows; it is shared out by the time for which the service's instances had these requests.
//! That is right where requests of a service are alike in how much they wait, and too much for those
//! that wait for others. Measuring within the services was refused: it would need code in each of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use atoll_base::Timestamp;
use atoll_telemetry::{Filter, Kind, Use};
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::derived::TimesQuery;
use super::extract::{Json, Query};
use super::log_search::between;
use super::types::Problem;
use crate::node::{Node, metric};

/// A caller that asks another service so often for one request of its own could ask once.
const CHATTY_CALLS: u32 = 5;

/// Who uses the machine.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CostsView {
    /// What each service used: processor and memory as measured, of all its instances.
    pub services: Vec<ServiceCost>,
    /// Of that, what went into each route: an estimate, by the time its requests took.
    pub routes: Vec<RouteCost>,
    /// Of that, what each caller caused: an estimate, by the time its requests took.
    pub callers: Vec<CallerCost>,
    /// Who asks too often for one request of its own.
    pub chatty: Vec<ChattyView>,
}

/// What a service used.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ServiceCost {
    /// The service.
    pub name: String,
    /// Processor time, in seconds.
    pub cpu_seconds: f64,
    /// Memory over time: a mebibyte for a minute is 62,914,560.
    pub memory_byte_seconds: f64,
    /// Bytes of the bodies of its requests and answers.
    pub bytes: u64,
}

/// What went into a route.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RouteCost {
    /// Whose it is.
    pub service: String,
    /// `GET /orders/{id}`; the method alone where no route is known.
    pub route: String,
    /// How often it was asked for.
    pub requests: u64,
    /// Its part of the service's processor time, in seconds: an estimate.
    pub cpu_seconds: f64,
    /// Its part of the memory over time, in byte-seconds, by the same share: an estimate.
    pub memory_byte_seconds: f64,
    /// Bytes of the bodies of its requests and answers.
    pub bytes: u64,
}

/// What a caller caused.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CallerCost {
    /// Who asked: `edge` for clients outside.
    pub caller: String,
    /// Who was asked.
    pub callee: String,
    /// How often.
    pub requests: u64,
    /// Its part of the processor time of who was asked, in seconds: an estimate.
    pub cpu_seconds: f64,
    /// Its part of the memory over time, in byte-seconds, by the same share: an estimate.
    pub memory_byte_seconds: f64,
    /// Bytes of the bodies of its requests and answers.
    pub bytes: u64,
}

/// A caller that asks too often.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ChattyView {
    /// Who asks.
    pub caller: String,
    /// Who is asked.
    pub callee: String,
    /// Calls for one request of the caller: the median of the traces in which there were five or more.
    pub calls_per_request: f64,
    /// The trace with the most.
    pub trace: String,
}

/// What was measured of a service's instances, together.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Used {
    cpu_seconds: f64,
    memory_byte_seconds: f64,
}

/// What came together of requests.
#[derive(Default)]
struct Share {
    requests: u64,
    cpu_seconds: f64,
    memory_byte_seconds: f64,
    bytes: u64,
}

/// Who uses the machine, and for whom. What services used is measured; how it is shared out over routes
/// and callers is an estimate, by the time for which instances had their requests.
#[utoipa::path(
    get, path = "/v1/costs", params(TimesQuery),
    responses((status = 200, body = CostsView), (status = 422, body = Problem))
)]
pub async fn costs(
    State(node): State<Arc<Node>>,
    Query(query): Query<TimesQuery>,
) -> Result<Json<CostsView>, Problem> {
    let (since, until) = between(query.since.as_deref(), query.until.as_deref())?;
    let all = Filter::all(Kind::Spans).since(since).until(until);
    let mut filter = all.clone();
    let wanted = super::derived::service(query.service.as_deref())?;
    if let Some(service) = &wanted {
        filter = filter.of_services(std::slice::from_ref(service));
    }
    let mut used = used(&node, (since, until)).await?;
    if let Some(service) = &wanted {
        used.retain(|name, _| name == service.as_str());
    }
    let mut uses = node.telemetry().uses(filter).await?;
    // What reached no service was nobody's work.
    uses.retain(|own| own.service != "atoll");
    let mut costs = share_out(&used, &uses);
    // Who asks too often shows only beside the requests that it had, which are not this service's.
    let mut chatty = node.telemetry().chatty(all, CHATTY_CALLS).await?;
    if let Some(service) = &wanted {
        chatty.retain(|own| [own.caller.as_str(), &own.callee].contains(&service.as_str()));
    }
    let chatty = chatty.into_iter().map(|own| ChattyView {
        caller: own.caller,
        callee: own.callee,
        calls_per_request: own.calls_per_request,
        trace: own.trace.to_string(),
    });
    costs.chatty = chatty.collect();
    Ok(Json(costs))
}

/// What the instances of each service used.
async fn used(
    node: &Node,
    (since, until): (Timestamp, Timestamp),
) -> Result<BTreeMap<String, Used>, Problem> {
    let mut used = BTreeMap::<String, Used>::new();
    for name in [metric::CPU, metric::MEMORY] {
        for (labels, total) in node.metrics().totals(name, since, until).await? {
            let Some(service) = labels.get("service") else {
                continue;
            };
            let used = used.entry(service.to_owned()).or_default();
            if name == metric::CPU {
                used.cpu_seconds += total;
            } else {
                used.memory_byte_seconds += total;
            }
        }
    }
    Ok(used)
}

/// Shares what services used out over their requests: each gets the part of its service's processor
/// time and memory that it has of the time of all requests to this service. So the parts of a service sum up to
/// what it used, its idle work among them; of a service without requests nothing is shared out.
fn share_out(used: &BTreeMap<String, Used>, uses: &[Use]) -> CostsView {
    let mut busy = BTreeMap::<&str, u64>::new();
    let mut bytes = BTreeMap::<&str, u64>::new();
    for own in uses {
        *busy.entry(&own.service).or_default() += own.busy_us;
        *bytes.entry(&own.service).or_default() += own.bytes;
    }
    let mut routes = BTreeMap::<(&str, &str), Share>::new();
    let mut callers = BTreeMap::<(&str, &str), Share>::new();
    for own in uses {
        let all = busy.get(own.service.as_str()).copied().unwrap_or_default();
        let used = used.get(&own.service).copied().unwrap_or_default();
        let part = match all {
            0 => 0.0,
            all => own.busy_us as f64 / all as f64,
        };
        let route = routes.entry((&own.service, &own.route));
        let caller = callers.entry((&own.caller, &own.service));
        for share in [route.or_default(), caller.or_default()] {
            share.requests += own.requests;
            share.cpu_seconds += used.cpu_seconds * part;
            share.memory_byte_seconds += used.memory_byte_seconds * part;
            share.bytes += own.bytes;
        }
    }
    let mut names: Vec<&str> = used.keys().map(String::as_str).collect();
    names.extend(busy.keys());
    names.sort_unstable();
    names.dedup();
    let services = names.into_iter().map(|name| {
        let used = used.get(name).copied().unwrap_or_default();
        ServiceCost {
            name: name.to_owned(),
            cpu_seconds: used.cpu_seconds,
            memory_byte_seconds: used.memory_byte_seconds,
            bytes: bytes.get(name).copied().unwrap_or_default(),
        }
    });
    let routes = routes
        .into_iter()
        .map(|((service, route), share)| RouteCost {
            service: service.to_owned(),
            route: route.to_owned(),
            requests: share.requests,
            cpu_seconds: share.cpu_seconds,
            memory_byte_seconds: share.memory_byte_seconds,
            bytes: share.bytes,
        });
    let callers = callers
        .into_iter()
        .map(|((caller, callee), share)| CallerCost {
            caller: caller.to_owned(),
            callee: callee.to_owned(),
            requests: share.requests,
            cpu_seconds: share.cpu_seconds,
            memory_byte_seconds: share.memory_byte_seconds,
            bytes: share.bytes,
        });
    CostsView {
        services: services.collect(),
        routes: routes.collect(),
        callers: callers.collect(),
        chatty: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(caller: &str, service: &str, route: &str, busy_us: u64) -> Use {
        Use {
            caller: caller.to_owned(),
            service: service.to_owned(),
            route: route.to_owned(),
            requests: 10,
            busy_us,
            bytes: 100,
        }
    }

    #[test]
    fn what_a_service_used_is_shared_out_by_time_and_none_of_it_is_lost() {
        let cpu = |cpu_seconds| Used {
            cpu_seconds,
            memory_byte_seconds: 5.0,
        };
        let used = [("orders", cpu(8.0)), ("idle", cpu(3.0))];
        let used = used.map(|(name, used)| (name.to_owned(), used)).into();
        let uses = [
            own("edge", "orders", "GET /orders/{id}", 1_000),
            own("edge", "orders", "POST /orders", 2_000),
            own("cart", "orders", "POST /orders", 1_000),
            // Nothing is known of what it used, and none of its requests came to an instance.
            own("cart", "bank", "GET", 0),
        ];
        let costs = share_out(&used, &uses);
        let cpu: Vec<_> = costs
            .routes
            .iter()
            .map(|own| (own.route.as_str(), own.requests, own.cpu_seconds))
            .collect();
        assert_eq!(
            cpu,
            [
                ("GET", 10, 0.0),
                ("GET /orders/{id}", 10, 2.0),
                ("POST /orders", 20, 6.0)
            ]
        );
        let memory: f64 = costs
            .callers
            .iter()
            .map(|own| own.memory_byte_seconds)
            .sum();
        assert_eq!(memory, 5.0, "that of orders");
        let cpu: Vec<_> = costs
            .callers
            .iter()
            .map(|own| (own.caller.as_str(), own.callee.as_str(), own.cpu_seconds))
            .collect();
        assert_eq!(
            cpu,
            [
                ("cart", "bank", 0.0),
                ("cart", "orders", 2.0),
                ("edge", "orders", 6.0)
            ]
        );
        let services: Vec<_> = costs
            .services
            .iter()
            .map(|own| (own.name.as_str(), own.cpu_seconds, own.bytes))
            .collect();
        assert_eq!(
            services,
            [("bank", 0.0, 100), ("idle", 3.0, 0), ("orders", 8.0, 300)]
        );
    }
}
