//! What a service does not answer to, by caller, path and method: said by the service that is
//! called, in its own manifest.

use std::collections::{BTreeMap, BTreeSet};

use atoll_base::ServiceName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::RouteConfig;
use crate::route::{Lookup, Match, RouteError, RouteTable};

/// `[[deny]]` of `service.toml`: calls of other services that are answered 403.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DenyConfig {
    /// The path, as in a route: `/admin/**`. Default: every path.
    #[serde(default = "everything")]
    pub path: String,
    /// The methods, in capitals. Default: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<String>,
    /// The services whose calls are refused. Default: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub from: Vec<ServiceName>,
}

/// The rules of one service, compiled.
#[derive(Debug, Default)]
pub struct Denials {
    /// For callers that are named: their rules, and those for all.
    named: BTreeMap<ServiceName, RouteTable>,
    /// For everyone else.
    others: RouteTable,
}

fn everything() -> String {
    "/**".to_owned()
}

impl Denials {
    /// Compiles the rules of `service`.
    pub fn build(service: &ServiceName, rules: &[DenyConfig]) -> Result<Self, Vec<RouteError>> {
        let table = |caller: Option<&ServiceName>| {
            // By path: the methods, or none for all of them.
            let mut refused: BTreeMap<&str, Option<BTreeSet<&str>>> = BTreeMap::new();
            for rule in rules {
                let named = caller.is_some_and(|caller| rule.from.contains(caller));
                if !named && !rule.from.is_empty() {
                    continue;
                }
                let methods = refused
                    .entry(&rule.path)
                    .or_insert_with(|| Some(BTreeSet::new()));
                match methods {
                    Some(methods) if !rule.methods.is_empty() => {
                        methods.extend(rule.methods.iter().map(String::as_str));
                    }
                    _ => *methods = None,
                }
            }
            RouteTable::build(refused.into_iter().map(|(path, methods)| {
                let methods = methods.into_iter().flatten().map(str::to_owned);
                let route = RouteConfig {
                    methods: methods.collect(),
                    ..RouteConfig::new(path)
                };
                (service.clone(), route)
            }))
        };
        let mut named = BTreeMap::new();
        for caller in rules.iter().flat_map(|rule| &rule.from) {
            named.insert(caller.clone(), table(Some(caller))?);
        }
        Ok(Self {
            named,
            others: table(None)?,
        })
    }

    /// Whether a call is refused.
    pub(crate) fn refuse(&self, caller: &ServiceName, method: &[u8], path: &[u8]) -> bool {
        let table = self.named.get(caller).unwrap_or(&self.others);
        let found = table.find(&Lookup {
            host: b"",
            method,
            path,
            query: "",
            fields: None,
        });
        matches!(found, Match::Route(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> ServiceName {
        ServiceName::new(text).unwrap()
    }

    fn denials(toml: &str) -> Denials {
        #[derive(Deserialize)]
        struct File {
            deny: Vec<DenyConfig>,
        }
        let file: File = toml::from_str(toml).unwrap();
        Denials::build(&name("orders"), &file.deny).unwrap()
    }

    #[test]
    fn rules_are_for_the_named_and_for_all() {
        let denials = denials(
            "[[deny]]\npath = '/admin/**'\n\
             [[deny]]\nfrom = ['notices']\nmethods = ['POST', 'PUT']\npath = '/orders'\n\
             [[deny]]\nfrom = ['notices']\nmethods = ['DELETE']\npath = '/orders'\n\
             [[deny]]\nfrom = ['legacy']",
        );
        for (caller, method, path, refused) in [
            ("notices", "GET", "/admin/x", true),
            ("points", "GET", "/admin", true),
            ("notices", "GET", "/orders", false),
            ("notices", "PUT", "/orders", true),
            ("notices", "DELETE", "/orders", true),
            ("points", "DELETE", "/orders", false),
            ("legacy", "GET", "/anything", true),
        ] {
            let found = denials.refuse(&name(caller), method.as_bytes(), path.as_bytes());
            assert_eq!(found, refused, "{caller} {method} {path}");
        }
    }

    #[test]
    fn bad_paths_are_mistakes() {
        let rule: DenyConfig = toml::from_str("path = 'admin'").unwrap();
        assert!(Denials::build(&name("orders"), &[rule]).is_err());
    }
}
