//! What keeps requests away from where they would go, over the API: breakers and instances that are left
//! out.
//!
//! The proxy tells why in facts. What a reader asks first, whether calls are refused or the next one is a
//! trial, follows from them, and is said here in a word: a breaker whose pause is over is open no more,
//! even if no call has come since.

use std::sync::Arc;

use atoll_base::Timestamp;
use atoll_proxy::resilience::Why;
use atoll_proxy::resilience::ejection::{State as Standing, Verdict};
use atoll_proxy::{OpenBreaker, Resilience};
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::extract::Json;
use crate::node::Node;

/// What keeps requests away from where they would go.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ResilienceView {
    /// Breakers that are not closed.
    pub breakers: Vec<BreakerView>,
    /// Instances that are left out, on probation, or would be out if enough others were in.
    pub instances: Vec<LeftOutView>,
}

/// A breaker that is not closed.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct BreakerView {
    /// Who calls; none for the edge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caller: Option<String>,
    /// Who is called.
    pub callee: String,
    /// Whether calls are refused.
    pub state: BreakerState,
    /// Why, in words.
    pub why: String,
    /// Why, for programs.
    pub facts: Facts,
}

/// Whether calls are refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum BreakerState {
    /// All are, until a time.
    Open,
    /// One at a time is made: the next, or one that is under way. Three good ones in a row close it, a bad
    /// one opens it again.
    HalfOpen,
}

/// An instance that does not simply get requests.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct LeftOutView {
    /// The instance.
    pub instance: String,
    /// How far it is left out.
    pub state: LeftOut,
    /// Why, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Why, for programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub facts: Option<Facts>,
}

/// How far an instance is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum LeftOut {
    /// It gets no requests.
    Out,
    /// It gets one at a time.
    Probation,
    /// It gets requests, and would be out if enough others were in.
    Kept,
}

/// Why something is out, and for how long.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Facts {
    /// What made it go out: its `kind` (`in_a_row`, `failure_rate`, `slow`, `calls`), and numbers.
    #[schema(value_type = HashMap<String, serde_json::Value>)]
    pub cause: serde_json::Value,
    /// Trials that failed since then.
    pub trials_failed: u32,
    /// When it is tried again (RFC 3339); absent: with the next request that suits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub until: Option<Timestamp>,
}

/// Breakers that are not closed and instances that are left out, each with the reason. Empty lists when all is
/// well.
#[utoipa::path(get, path = "/v1/resilience", responses((status = 200, body = ResilienceView)))]
pub async fn resilience(State(node): State<Arc<Node>>) -> Json<ResilienceView> {
    Json(node.resilience().into())
}

impl LeftOut {
    /// The word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Out => "out",
            Self::Probation => "probation",
            Self::Kept => "kept",
        }
    }

    fn of(state: Standing) -> Option<Self> {
        match state {
            Standing::In => None,
            Standing::Kept => Some(Self::Kept),
            Standing::Out => Some(Self::Out),
            Standing::Probation => Some(Self::Probation),
        }
    }
}

impl From<Resilience> for ResilienceView {
    fn from(own: Resilience) -> Self {
        let instances = own.instances.into_iter().filter_map(LeftOutView::of);
        Self {
            breakers: own.breakers.into_iter().map(BreakerView::from).collect(),
            instances: instances.collect(),
        }
    }
}

impl From<OpenBreaker> for BreakerView {
    fn from(own: OpenBreaker) -> Self {
        Self {
            caller: own.caller.map(|caller| caller.to_string()),
            callee: own.callee.to_string(),
            state: match own.why.until {
                Some(_) => BreakerState::Open,
                None => BreakerState::HalfOpen,
            },
            why: own.why.to_string(),
            facts: own.why.into(),
        }
    }
}

impl LeftOutView {
    fn of(own: Verdict) -> Option<Self> {
        Some(Self {
            state: LeftOut::of(own.state)?,
            instance: own.instance.to_string(),
            why: own.why.as_ref().map(ToString::to_string),
            facts: own.why.map(Facts::from),
        })
    }
}

impl From<Why> for Facts {
    fn from(own: Why) -> Self {
        Self {
            cause: serde_json::to_value(own.cause).expect("a map of numbers and texts"),
            trials_failed: own.trials_failed,
            until: own.until,
        }
    }
}

#[cfg(test)]
mod tests {
    use atoll_base::{InstanceId, RevisionNumber, ServiceName};
    use atoll_proxy::resilience::{Cause, Failure};

    use super::*;

    fn why(until: Option<Timestamp>) -> Why {
        let cause = Cause::Calls {
            failures: 19,
            calls: 20,
            last: Some(Failure::Status(503)),
        };
        Why {
            cause,
            trials_failed: 2,
            until,
        }
    }

    fn breaker(until: Option<Timestamp>) -> BreakerView {
        BreakerView::from(OpenBreaker {
            caller: None,
            callee: ServiceName::new("bank").unwrap(),
            why: why(until),
        })
    }

    #[test]
    fn a_breaker_is_open_while_it_has_a_time_to_wait_for() {
        let until = Timestamp::from_micros(1_763_690_400_000_000);
        let open = breaker(Some(until));
        assert_eq!(open.state, BreakerState::Open);
        assert_eq!(
            (open.facts.trials_failed, open.facts.until),
            (2, Some(until))
        );
        assert_eq!(open.facts.cause["kind"], "calls");
        let tried = breaker(None);
        assert_eq!(tried.state, BreakerState::HalfOpen);
        let told = serde_json::to_value(&tried).unwrap();
        assert_eq!(told["state"], "half_open");
        assert!(told["facts"].get("until").is_none() && told.get("caller").is_none());
    }

    #[test]
    fn an_instance_that_simply_gets_requests_is_not_among_those_left_out() {
        let states = [
            Standing::In,
            Standing::Kept,
            Standing::Out,
            Standing::Probation,
        ];
        let instances = states.map(|state| Verdict {
            instance: InstanceId::new(ServiceName::new("bank").unwrap(), RevisionNumber(1), 1),
            state,
            why: Some(why(None)),
        });
        let view = ResilienceView::from(Resilience {
            breakers: Vec::new(),
            instances: instances.into(),
        });
        let told = serde_json::to_value(&view.instances).unwrap();
        let told: Vec<_> = told
            .as_array()
            .unwrap()
            .iter()
            .map(|own| &own["state"])
            .collect();
        let words: Vec<_> = view.instances.iter().map(|own| own.state.word()).collect();
        assert_eq!(words, ["kept", "out", "probation"]);
        assert_eq!(told, words);
        assert_eq!(view.instances[0].facts.as_ref().unwrap().trials_failed, 2);
    }
}
