//! What a route does besides leading to its service: checked and compiled once, when the routes are
//! built.
//!
//! A route that only leads somewhere has no policy, and its requests pay one comparison for all of
//! this. The stages run in the order of [`Policy`]'s fields: who may come at all, answers that need
//! no service, then the changes on the way there and back.

mod careful;
mod cors;
mod edit;
mod matching;
mod network;
mod template;

use std::sync::Arc;

use atoll_base::ServiceName;

pub(crate) use self::careful::add_careful;
pub(crate) use self::cors::{Cors, Preflight};
pub(crate) use self::edit::Edits;
pub(crate) use self::matching::Matches;
pub(crate) use self::network::Networks;
pub(crate) use self::template::Template;
use crate::auth::{Access, AuthError, AuthKind};
use crate::cache::{CacheConfig, CachePolicy};
use crate::config::{BackendConfig, RouteConfig};
use crate::rate::{By, Limit, RateLimitConfig};

/// What a route does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Policy {
    pub(crate) allow: Option<Networks>,
    pub(crate) deny: Option<Networks>,
    pub(crate) cors: Option<Cors>,
    pub(crate) rate: Option<Rate>,
    pub(crate) access: Option<Access>,
    pub(crate) local: Option<Local>,
    pub(crate) rewrite: Option<Template>,
    pub(crate) request: Edits,
    pub(crate) response: Edits,
    /// In place of the route's own service; with the sum of weights up to each.
    pub(crate) backends: Vec<(ServiceName, u32)>,
    pub(crate) mirror: Option<Mirror>,
    pub(crate) cache: Option<Arc<CachePolicy>>,
}

/// An answer that needs no service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Local {
    /// Closed, with the text that says why.
    Maintenance(String),
    Redirect {
        to: Template,
        status: u16,
    },
    Answer {
        status: u16,
        content_type: String,
        body: String,
    },
}

/// How many requests each client may make.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Rate {
    pub(crate) limit: Limit,
    pub(crate) by: By,
}

/// Requests are copied to another service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mirror {
    pub(crate) service: ServiceName,
    pub(crate) percent: u8,
}

/// A setting of a route that is not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// A place in a template that the path does not have.
    #[error(
        "'{place}' in '{template}' stands for nothing in the path '{path}': use the parameters of the path in braces, and '**' at the end if the path ends so"
    )]
    Template {
        /// What stands for nothing.
        place: String,
        /// The template.
        template: String,
        /// The path of the route.
        path: String,
    },
    /// A rewritten path that is no path.
    #[error("the path '{0}' must start with '/' and have no '?' or '#'")]
    Rewrite(String),
    /// A target of a redirect that is neither a path nor a URI.
    #[error("a redirect to '{0}' leads nowhere: write a path ('/new') or a URI ('https://…')")]
    Target(String),
    /// A status that is no redirect.
    #[error("{0} is no redirect: use 301, 302, 303, 307 or 308")]
    Redirect(u16),
    /// A field name that is none.
    #[error("'{0}' is no name of a header field")]
    FieldName(String),
    /// A field that only the proxy may set.
    #[error("the field '{0}' frames or traces the message; only the proxy sets it")]
    OwnField(String),
    /// A field value that is none.
    #[error("the value of '{0}' has a control character")]
    FieldValue(String),
    /// A network that is none.
    #[error("'{0}' is no network: write an address ('10.1.2.3') or a network ('10.0.0.0/8')")]
    Network(String),
    /// An origin that is none.
    #[error(
        "'{0}' is no origin: write a scheme and a host ('https://shop.example.com'), or '*' alone"
    )]
    Origin(String),
    /// Credentials for everyone.
    #[error("credentials cannot be allowed for the origin '*': name the origins")]
    Credentials,
    /// Weights that are all zero.
    #[error("all backends have the weight 0: give one of them more")]
    Weights,
    /// Something that tells no clients apart.
    #[error(
        "clients cannot be told apart by '{0}': write 'client', 'key', 'all', 'claim:NAME' or 'header:NAME'"
    )]
    By(String),
    /// What it asks of who comes is not understood.
    #[error(transparent)]
    Access(#[from] AuthError),
    /// Several answers for one request.
    #[error("of 'redirect', 'answer' and 'maintenance', a route can have one: leave out '{0}'")]
    Several(&'static str),
}

impl Policy {
    /// Compiles what a route says; none if it says nothing of all this.
    pub(crate) fn compile(config: &RouteConfig) -> Result<Option<Self>, PolicyError> {
        let policy = Self {
            allow: Networks::parse(&config.allow)?,
            deny: Networks::parse(&config.deny)?,
            cors: config
                .cors
                .as_ref()
                .map(|cors| Cors::compile(cors, &config.methods))
                .transpose()?,
            rate: config.rate_limit.as_ref().map(rate).transpose()?,
            access: access(config)?,
            local: local(config)?,
            rewrite: config
                .rewrite
                .as_deref()
                .map(|template| rewrite(template, &config.path))
                .transpose()?,
            request: Edits::compile(config.request_headers.as_ref())?,
            response: Edits::compile(config.response_headers.as_ref())?,
            backends: backends(&config.backends)?,
            mirror: config.mirror.as_ref().map(|mirror| Mirror {
                service: mirror.service.clone(),
                percent: mirror.percent.unwrap_or(100),
            }),
            cache: config.cache.as_ref().map(cache(config)).transpose()?,
        };
        Ok((!policy.is_plain()).then_some(policy))
    }

    fn is_plain(&self) -> bool {
        self.allow.is_none()
            && self.deny.is_none()
            && self.cors.is_none()
            && self.rate.is_none()
            && self.access.is_none()
            && self.local.is_none()
            && self.rewrite.is_none()
            && self.request.is_empty()
            && self.response.is_empty()
            && self.backends.is_empty()
            && self.mirror.is_none()
            && self.cache.is_none()
    }
}

/// What is kept of a route's answers. Anything else that the route says may change them.
fn cache(route: &RouteConfig) -> impl Fn(&CacheConfig) -> Result<Arc<CachePolicy>, PolicyError> {
    move |config| {
        let unsound = |name: &&String| http::HeaderName::from_bytes(name.as_bytes()).is_err();
        if let Some(name) = config.vary.iter().find(unsound) {
            return Err(PolicyError::FieldName(name.clone()));
        }
        Ok(Arc::new(CachePolicy::new(config, format!("{route:?}"))))
    }
}

/// Checks everything that a route says besides where it leads; tells the key that is wrong.
pub(crate) fn check(config: &RouteConfig) -> Result<(), (&'static str, PolicyError)> {
    let at = |key: &'static str| move |error: PolicyError| (key, error);
    Networks::parse(&config.allow).map_err(at("allow"))?;
    Networks::parse(&config.deny).map_err(at("deny"))?;
    if let Some(cors) = &config.cors {
        Cors::compile(cors, &config.methods).map_err(at("cors"))?;
    }
    if let Some(limit) = &config.rate_limit {
        rate(limit).map_err(at("rate_limit"))?;
    }
    access(config).map_err(at("auth"))?;
    let answered_by = match (&config.redirect, &config.answer) {
        (Some(_), _) => "redirect",
        (None, Some(_)) => "answer",
        (None, None) => "maintenance",
    };
    local(config).map_err(at(answered_by))?;
    config
        .cache
        .as_ref()
        .map(cache(config))
        .transpose()
        .map_err(at("cache"))?;
    if let Some(template) = &config.rewrite {
        rewrite(template, &config.path).map_err(at("rewrite"))?;
    }
    Edits::compile(config.request_headers.as_ref()).map_err(at("request_headers"))?;
    Edits::compile(config.response_headers.as_ref()).map_err(at("response_headers"))?;
    backends(&config.backends).map_err(at("backends"))?;
    Ok(())
}

/// Whether the name is known, and fits, was checked with the whole of the manifests. A request for a
/// name that is not known is refused.
fn access(config: &RouteConfig) -> Result<Option<Access>, PolicyError> {
    let config = config.access();
    let known = config.auth.as_deref().map(|name| (name, AuthKind::Jwt));
    Ok(Access::compile(&config, known)?)
}

fn rate(config: &RateLimitConfig) -> Result<Rate, PolicyError> {
    Ok(Rate {
        limit: Limit::new(config),
        by: By::parse(&config.by)?,
    })
}

fn rewrite(template: &str, path: &str) -> Result<Template, PolicyError> {
    if !template.starts_with('/') || template.contains(['?', '#']) {
        return Err(PolicyError::Rewrite(template.to_owned()));
    }
    Template::parse(template, path)
}

fn local(config: &RouteConfig) -> Result<Option<Local>, PolicyError> {
    if config.maintenance.is_some() && config.redirect.is_some() {
        return Err(PolicyError::Several("redirect"));
    }
    if config.answer.is_some() && (config.maintenance.is_some() || config.redirect.is_some()) {
        return Err(PolicyError::Several("answer"));
    }
    if let Some(text) = &config.maintenance {
        return Ok(Some(Local::Maintenance(text.clone())));
    }
    if let Some(redirect) = &config.redirect {
        let status = redirect.status.unwrap_or(308);
        if !matches!(status, 301 | 302 | 303 | 307 | 308) {
            return Err(PolicyError::Redirect(status));
        }
        let leads = redirect.to.starts_with('/') || redirect.to.contains("://");
        if !leads || !redirect.to.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(PolicyError::Target(redirect.to.clone()));
        }
        let to = Template::parse(&redirect.to, &config.path)?;
        return Ok(Some(Local::Redirect { to, status }));
    }
    let Some(answer) = &config.answer else {
        return Ok(None);
    };
    let content_type = answer.content_type.clone();
    let content_type = content_type.unwrap_or_else(|| "text/plain; charset=utf-8".to_owned());
    edit::check_value("content-type", &content_type)?;
    Ok(Some(Local::Answer {
        status: answer.status.unwrap_or(200),
        content_type,
        body: answer.body.clone(),
    }))
}

fn backends(given: &[BackendConfig]) -> Result<Vec<(ServiceName, u32)>, PolicyError> {
    let mut sum = 0u32;
    let sums = given.iter().map(|backend| {
        sum = sum.saturating_add(backend.weight);
        (backend.service.clone(), sum)
    });
    let sums: Vec<_> = sums.collect();
    match sums.last() {
        Some((_, 0)) => Err(PolicyError::Weights),
        _ => Ok(sums),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{AnswerConfig, RedirectConfig};

    fn compile(change: impl FnOnce(&mut RouteConfig)) -> Result<Option<Policy>, PolicyError> {
        let mut config = RouteConfig::new("/a/{id}/**");
        change(&mut config);
        Policy::compile(&config)
    }

    #[test]
    fn a_route_that_only_leads_somewhere_has_no_policy() {
        assert_eq!(compile(|_| {}), Ok(None));
        assert!(
            compile(|c| c.deny = vec!["10.0.0.0/8".to_owned()])
                .unwrap()
                .is_some()
        );
    }

    #[test]
    fn mistakes_say_what_to_write() {
        let redirect = |to: &str, status| {
            let (to, status) = (to.to_owned(), Some(status));
            move |c: &mut RouteConfig| c.redirect = Some(RedirectConfig { to, status })
        };
        let error = compile(|c| c.rewrite = Some("/b/{name}".to_owned())).unwrap_err();
        assert!(
            error.to_string().starts_with("'{name}' in '/b/{name}'"),
            "{error}"
        );
        assert_eq!(
            compile(redirect("/b", 200)),
            Err(PolicyError::Redirect(200))
        );
        let nowhere = PolicyError::Target("b".to_owned());
        assert_eq!(compile(redirect("b", 308)), Err(nowhere));
        let both = compile(|c| {
            c.maintenance = Some("closed".to_owned());
            c.answer = Some(AnswerConfig {
                status: None,
                body: String::new(),
                content_type: None,
            });
        });
        assert_eq!(both, Err(PolicyError::Several("answer")));
        let idle = compile(|c| {
            let service = ServiceName::new("b").unwrap();
            c.backends = vec![BackendConfig { service, weight: 0 }];
        });
        assert_eq!(idle, Err(PolicyError::Weights));
    }
}
