//! Who may publish to and read what.
//!
//! A service has an account of its own, and may do what its manifest declares; whoever comes without
//! an account may do everything, or nothing, as the operator decides. The table is replaced as a
//! whole when a manifest changes, and asked for each request: what is taken away is gone at once,
//! also for connections that stand.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use arc_swap::ArcSwap;

/// What an account may do.
#[derive(Clone, Default)]
pub struct Account {
    /// The password.
    pub secret: String,
    /// The topics that it may publish to.
    pub publishes: BTreeSet<String>,
    /// The topics that it may read.
    pub reads: BTreeSet<String>,
}

/// All accounts, by name. A cheap handle; clones share the table.
#[derive(Clone)]
pub struct Access(Arc<Shared>);

struct Shared {
    accounts: ArcSwap<HashMap<String, Account>>,
    /// Who has no account may do everything.
    open: bool,
}

/// Who speaks on a connection.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Principal {
    /// Nobody has said.
    #[default]
    Anonymous,
    /// Who has given the password of this account.
    Account(String),
    /// Who has tried to be somebody, and is not.
    Nobody,
    /// The platform itself.
    Platform,
}

/// What someone wants to do with a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Right {
    /// Publish to it.
    Publish,
    /// Read it.
    Read,
    /// Know that it exists.
    Describe,
    /// Make it, delete it, set it up.
    Manage,
}

impl Access {
    /// Without accounts. `open`: who has none may do everything.
    pub fn new(open: bool) -> Self {
        Self(Arc::new(Shared {
            accounts: ArcSwap::default(),
            open,
        }))
    }

    /// Puts other accounts in place of those that are.
    pub fn replace(&self, accounts: HashMap<String, Account>) {
        self.0.accounts.store(Arc::new(accounts));
    }

    /// Lets an account do more than it may, if there is one of the name.
    pub fn grant(&self, name: &str, publishes: &[String], reads: &[String]) {
        self.0.accounts.rcu(|accounts| {
            let mut accounts = HashMap::clone(accounts);
            if let Some(account) = accounts.get_mut(name) {
                account.publishes.extend(publishes.iter().cloned());
                account.reads.extend(reads.iter().cloned());
            }
            accounts
        });
    }

    /// Whether anything can be asked without an account.
    pub fn is_open(&self) -> bool {
        self.0.open
    }

    /// The password of an account.
    pub(crate) fn secret(&self, name: &str) -> Option<String> {
        let accounts = self.0.accounts.load();
        accounts.get(name).map(|account| account.secret.clone())
    }

    /// Whose accounts publish to the topic, and whose read it.
    pub fn of_topic(&self, topic: &str) -> (Vec<String>, Vec<String>) {
        let accounts = self.0.accounts.load();
        let names = |may: fn(&Account, &str) -> bool| {
            let its = accounts.iter().filter(|(_, account)| may(account, topic));
            let mut names: Vec<_> = its.map(|(name, _)| name.clone()).collect();
            names.sort_unstable();
            names
        };
        let publish = names(|account, topic| account.publishes.contains(topic));
        (
            publish,
            names(|account, topic| account.reads.contains(topic)),
        )
    }

    /// Whether `who` may do this with the topic.
    pub fn permits(&self, who: &Principal, right: Right, topic: &str) -> bool {
        let name = match who {
            Principal::Platform => return true,
            Principal::Anonymous => return self.0.open,
            Principal::Nobody => return false,
            Principal::Account(name) => name,
        };
        let accounts = self.0.accounts.load();
        let Some(account) = accounts.get(name) else {
            return false;
        };
        match right {
            Right::Publish => account.publishes.contains(topic),
            Right::Read => account.reads.contains(topic),
            Right::Describe => account.publishes.contains(topic) || account.reads.contains(topic),
            Right::Manage => false,
        }
    }

    /// Whether `who` may do what concerns no topic: look at the cluster, use a group of its own.
    pub fn knows(&self, who: &Principal) -> bool {
        match who {
            Principal::Platform => true,
            Principal::Anonymous => self.0.open,
            Principal::Nobody => false,
            Principal::Account(name) => self.0.accounts.load().contains_key(name),
        }
    }

    /// Whether `who` may use the consumer group. Those of the platform's own deliveries are nobody
    /// else's: a commit in their name would lose records.
    pub fn permits_group(&self, who: &Principal, group: &str) -> bool {
        *who == Principal::Platform || (self.knows(who) && !group.starts_with(OWN_GROUPS))
    }
}

/// The beginning of the names of the platform's own groups and transactions.
pub const OWN_GROUPS: &str = "atoll.";

impl std::fmt::Debug for Account {
    /// Without the password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Account")
            .field("publishes", &self.publishes)
            .field("reads", &self.reads)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Access")
            .field("open", &self.0.open)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn orders() -> Account {
        Account {
            secret: "s".to_owned(),
            publishes: BTreeSet::from(["orders.placed".to_owned()]),
            reads: BTreeSet::from(["payments.settled".to_owned()]),
        }
    }

    #[test]
    fn an_account_may_do_what_it_declares_and_nothing_else() {
        let access = Access::new(true);
        access.replace(HashMap::from([("orders".to_owned(), orders())]));
        let orders = Principal::Account("orders".to_owned());
        let may = |right, topic| access.permits(&orders, right, topic);
        assert!(may(Right::Publish, "orders.placed"));
        assert!(may(Right::Read, "payments.settled"));
        assert!(may(Right::Describe, "payments.settled"));
        assert!(!may(Right::Read, "orders.placed"));
        assert!(!may(Right::Publish, "payments.settled"));
        assert!(!may(Right::Describe, "secrets"));
        assert!(!may(Right::Manage, "orders.placed"));
        assert!(access.permits_group(&orders, "anything"));
        assert!(!access.permits_group(&orders, "atoll.points"));
        access.grant("orders", &["orders.cancelled".to_owned()], &[]);
        access.grant("nobody", &["orders.placed".to_owned()], &[]);
        assert!(access.permits(&orders, Right::Publish, "orders.cancelled"));
        access.replace(HashMap::new());
        assert!(!access.permits(&orders, Right::Publish, "orders.placed"));
        assert!(!access.permits_group(&orders, "anything"));
    }

    #[test]
    fn who_has_no_account_may_do_all_or_nothing() {
        for open in [true, false] {
            let access = Access::new(open);
            assert_eq!(
                access.permits(&Principal::Anonymous, Right::Manage, "a"),
                open
            );
            assert_eq!(access.permits_group(&Principal::Anonymous, "a"), open);
            assert!(access.permits(&Principal::Platform, Right::Manage, "a"));
        }
    }
}
