//! What is said of an alert: the same for all who are told. The shape is documented in docs/objectives.md.

use std::sync::Arc;

use atoll_base::Timestamp;
use atoll_events::cloudevents::Event;
use atoll_events::record::NewRecord;
use atoll_telemetry::objective::Notice;
use serde::{Deserialize, Serialize};

/// A state change of an alert.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Message {
    /// Tells it from all others; the same if it comes again.
    pub(super) id: String,
    pub(super) alert: String,
    pub(super) application: String,
    pub(super) service: String,
    pub(super) objective: String,
    pub(super) severity: String,
    pub(super) state: String,
    pub(super) since: Timestamp,
    pub(super) message: String,
    pub(super) target: String,
    pub(super) window: String,
    pub(super) budget_left: f64,
    pub(super) burn_1h: f64,
    pub(super) burn_6h: f64,
}

impl Message {
    pub(super) fn new(notice: &Notice, application: &str) -> Self {
        let key = &notice.id.key;
        Self {
            id: format!("{}-{}", notice.id, notice.since.as_micros()),
            alert: notice.id.to_string(),
            application: application.to_owned(),
            service: key.service.to_string(),
            objective: key.aim.as_str().to_owned(),
            severity: notice.id.severity.as_str().to_owned(),
            state: notice.state.as_str().to_owned(),
            since: notice.since,
            message: notice.message.clone(),
            target: notice.target.clone(),
            window: notice.window.clone(),
            budget_left: notice.budget_left,
            burn_1h: notice.burn_1h,
            burn_6h: notice.burn_6h,
        }
    }

    /// For a program that does not read JSON.
    pub(super) fn variables(&self) -> [(&'static str, String); 9] {
        [
            ("ALERT_ID", self.id.clone()),
            ("ALERT_NAME", self.alert.clone()),
            ("ALERT_APPLICATION", self.application.clone()),
            ("ALERT_SERVICE", self.service.clone()),
            ("ALERT_OBJECTIVE", self.objective.clone()),
            ("ALERT_SEVERITY", self.severity.clone()),
            ("ALERT_STATE", self.state.clone()),
            ("ALERT_SINCE", self.since.to_string()),
            ("ALERT_MESSAGE", self.message.clone()),
        ]
    }

    /// As an event; those of one alert stay in order.
    pub(super) fn record(&self, topic: impl Into<Arc<str>>) -> NewRecord {
        let source = format!("/applications/{}/alerts", self.application);
        let kind = format!("atoll.alert.{}", self.state);
        let mut event = Event::new(&self.id, source, kind);
        event.subject = Some(self.service.clone());
        event.time = Some(self.since.to_string());
        event.datacontenttype = Some("application/json".to_owned());
        event.data = Some(self.json().into());
        let keyed = event.extend("partitionkey", self.alert.as_str());
        debug_assert!(keyed.is_ok(), "names of services are plain");
        event.to_record(topic)
    }

    pub(super) fn json(&self) -> String {
        serde_json::to_string(self).expect("plain fields are written as JSON")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use atoll_telemetry::objective::AlertState;

    #[test]
    fn an_event_of_an_alert_follows_the_rules_of_cloudevents() {
        let notice = Notice {
            id: "orders-availability-page".parse().unwrap(),
            state: AlertState::Firing,
            since: Timestamp::from_micros(1_763_690_400_123_456),
            message: "all of it\nfails".to_owned(),
            target: "99.9%".to_owned(),
            window: "30d".to_owned(),
            budget_left: -0.5,
            burn_1h: 1000.0,
            burn_6h: 20.0,
        };
        let message = Message::new(&notice, "shop");
        let record = message.record("alerts");
        let header = |name: &str| {
            let found = record.headers.iter().find(|own| own.name == name);
            String::from_utf8(found.unwrap().value.clone().unwrap().to_vec()).unwrap()
        };
        assert_eq!(header("ce_type"), "atoll.alert.firing");
        assert_eq!(header("ce_source"), "/applications/shop/alerts");
        assert_eq!(header("ce_subject"), "orders");
        assert_eq!(header("ce_id"), "orders-availability-page-1763690400123456");
        assert_eq!(
            record.key.as_deref(),
            Some(&b"orders-availability-page"[..])
        );
        let data: Message = serde_json::from_slice(&record.value.clone().unwrap()).unwrap();
        assert_eq!(data, message);
    }
}
