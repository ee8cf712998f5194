//! How long an answer may be used, and whether it may be used for a request (RFC 9111, 4.2).

use super::control::{Orders, Wishes};

/// The times of an answer that is kept. Everything in seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Times {
    /// When it arrived, since the epoch.
    pub(crate) received: u64,
    /// How old it was then (RFC 9111, 4.2.3).
    pub(crate) age: u64,
    /// Until which age it is fresh (RFC 9111, 4.2.1).
    pub(crate) lifetime: u64,
    /// For so long after that it may be used while a new one is fetched (RFC 5861, 3).
    pub(crate) while_revalidate: u64,
    /// For so long after that it may be used where the service fails (RFC 5861, 4).
    pub(crate) if_error: u64,
    /// It must not be used before it was validated (RFC 9111, 5.2.2.4).
    pub(crate) no_cache: bool,
    /// No client's wish makes it usable when stale (RFC 9111, 5.2.2.2, 5.2.2.8 and 5.2.2.10).
    pub(crate) strict: bool,
}

/// What an answer that is kept is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    /// It is the answer.
    Fresh,
    /// It is the answer; it is old, and the client has said that it may be.
    Stale,
    /// It is the answer, and a new one is to be fetched behind it.
    WhileRevalidating,
    /// Whether it is still right has to be asked first. `asked`: the client wants it so.
    Validate {
        /// It would have been fresh but for what the client wants.
        asked: bool,
    },
}

impl Times {
    /// How old it is (RFC 9111, 4.2.3).
    pub(crate) fn age_at(&self, now: u64) -> u64 {
        self.age + now.saturating_sub(self.received)
    }

    /// For how long it is still fresh; negative once it is stale.
    pub(crate) fn left_at(&self, now: u64) -> i64 {
        signed(self.lifetime) - signed(self.age_at(now))
    }

    /// What it is good for (RFC 9111, 4.2 and 5.2.1; RFC 5861, 3).
    pub(crate) fn judge(&self, wishes: &Wishes, now: u64) -> Use {
        let (age, left) = (self.age_at(now), self.left_at(now));
        let fresh = left > 0 && !self.no_cache;
        // A client that takes nothing older than 0 s wants it validated, also within the first second.
        let too_old = wishes.max_age.is_some_and(|most| age > most || most == 0);
        let too_soon_over = wishes.min_fresh.is_some_and(|least| left < signed(least));
        if wishes.no_cache || too_old || too_soon_over {
            return Use::Validate { asked: fresh };
        }
        if fresh {
            return Use::Fresh;
        }
        if self.no_cache {
            return Use::Validate { asked: false };
        }
        let staleness = age.saturating_sub(self.lifetime);
        if !self.strict && wishes.max_stale.is_some_and(|most| staleness <= most) {
            return Use::Stale;
        }
        if staleness < self.while_revalidate {
            return Use::WhileRevalidating;
        }
        Use::Validate { asked: false }
    }

    /// Whether it may be used although the service fails (RFC 5861, 4).
    pub(crate) fn replaces_an_error(&self, now: u64) -> bool {
        let staleness = self.age_at(now).saturating_sub(self.lifetime);
        !self.no_cache && staleness < self.if_error
    }
}

/// Until which age an answer is fresh by what it says; none if it says nothing (RFC 9111, 4.2.1).
/// `expires` is the field's date, an inner none one that cannot be read, which is in the past.
pub(crate) fn explicit_lifetime(
    orders: &Orders,
    expires: Option<Option<u64>>,
    date: u64,
) -> Option<u64> {
    let by_date = expires.map(|moment| moment.map_or(0, |moment| moment.saturating_sub(date)));
    orders.s_maxage.or(orders.max_age).or(by_date)
}

/// How old an answer is when it arrives (RFC 9111, 4.2.3).
pub(crate) fn initial_age(age: u64, date: u64, requested: u64, received: u64) -> u64 {
    let apparent = received.saturating_sub(date);
    let corrected = age + received.saturating_sub(requested);
    apparent.max(corrected)
}

fn signed(seconds: u64) -> i64 {
    i64::try_from(seconds).unwrap_or(i64::MAX / 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRESH_FOR_60: Times = Times {
        received: 1000,
        age: 10,
        lifetime: 60,
        while_revalidate: 0,
        if_error: 0,
        no_cache: false,
        strict: false,
    };

    fn wishes() -> Wishes {
        Wishes::default()
    }

    /// RFC 9111, 4.2: fresh while the lifetime is greater than the age.
    #[test]
    fn it_is_fresh_until_its_age_reaches_its_lifetime() {
        assert_eq!(FRESH_FOR_60.judge(&wishes(), 1049), Use::Fresh);
        assert_eq!(FRESH_FOR_60.age_at(1049), 59);
        assert_eq!(FRESH_FOR_60.left_at(1049), 1);
        let over = Use::Validate { asked: false };
        assert_eq!(FRESH_FOR_60.judge(&wishes(), 1050), over);
        // A clock that was set back makes nothing younger than it was.
        assert_eq!(FRESH_FOR_60.age_at(0), 10);
    }

    fn judged(change: impl FnOnce(&mut Wishes), now: u64) -> Use {
        let mut own = wishes();
        change(&mut own);
        FRESH_FOR_60.judge(&own, now)
    }

    /// RFC 9111, 5.2.1.
    #[test]
    fn a_client_can_ask_for_more() {
        let asked = Use::Validate { asked: true };
        assert_eq!(judged(|own| own.no_cache = true, 1000), asked);
        assert_eq!(judged(|own| own.max_age = Some(10), 1000), Use::Fresh);
        assert_eq!(judged(|own| own.max_age = Some(9), 1000), asked);
        assert_eq!(judged(|own| own.min_fresh = Some(50), 1000), Use::Fresh);
        assert_eq!(judged(|own| own.min_fresh = Some(51), 1000), asked);
        let new = Times {
            age: 0,
            ..FRESH_FOR_60
        };
        let nothing_older = Wishes {
            max_age: Some(0),
            ..wishes()
        };
        assert_eq!(new.judge(&nothing_older, 1000), asked);
    }

    /// RFC 9111, 5.2.1.2.
    #[test]
    fn a_client_can_take_less() {
        let stale = Use::Validate { asked: false };
        assert_eq!(judged(|own| own.max_stale = Some(5), 1055), Use::Stale);
        assert_eq!(judged(|own| own.max_stale = Some(5), 1056), stale);
        assert_eq!(
            judged(|own| own.max_stale = Some(u64::MAX), 9999),
            Use::Stale
        );
    }

    /// RFC 9111, 5.2.2.2 and 5.2.2.4; RFC 5861, 3 and 4.
    #[test]
    fn what_is_stale_is_used_only_where_that_was_allowed() {
        let own = Times {
            while_revalidate: 30,
            if_error: 100,
            ..FRESH_FOR_60
        };
        assert_eq!(own.judge(&wishes(), 1079), Use::WhileRevalidating);
        assert_eq!(own.judge(&wishes(), 1080), Use::Validate { asked: false });
        assert!(own.replaces_an_error(1149) && !own.replaces_an_error(1150));
        let strict = Times {
            strict: true,
            ..FRESH_FOR_60
        };
        let any = Wishes {
            max_stale: Some(u64::MAX),
            ..wishes()
        };
        assert_eq!(strict.judge(&any, 1060), Use::Validate { asked: false });
        let no_cache = Times {
            no_cache: true,
            ..own
        };
        assert_eq!(no_cache.judge(&any, 1000), Use::Validate { asked: false });
        assert!(!no_cache.replaces_an_error(1000));
    }

    /// RFC 9111, 4.2.1: what is for shared caches wins, then `max-age`, then `Expires`.
    #[test]
    fn the_lifetime_is_what_is_said_most_exactly() {
        let orders = |s_maxage, max_age| Orders {
            s_maxage,
            max_age,
            ..Orders::default()
        };
        assert_eq!(
            explicit_lifetime(&orders(Some(1), Some(2)), Some(Some(99)), 0),
            Some(1)
        );
        assert_eq!(
            explicit_lifetime(&orders(None, Some(2)), Some(Some(99)), 0),
            Some(2)
        );
        assert_eq!(
            explicit_lifetime(&orders(None, None), Some(Some(99)), 90),
            Some(9)
        );
        assert_eq!(
            explicit_lifetime(&orders(None, None), Some(Some(99)), 100),
            Some(0)
        );
        assert_eq!(
            explicit_lifetime(&orders(None, None), Some(None), 0),
            Some(0)
        );
        assert_eq!(explicit_lifetime(&orders(None, None), None, 0), None);
    }

    /// RFC 9111, 4.2.3.
    #[test]
    fn the_age_counts_the_way_here() {
        assert_eq!(initial_age(5, 100, 100, 103), 8);
        assert_eq!(initial_age(0, 100, 129, 130), 30, "a date in the past");
        assert_eq!(initial_age(0, 200, 130, 130), 0, "one in the future");
    }

    proptest::proptest! {
        #[test]
        fn nothing_is_fresh_past_its_lifetime(
            age in 0u64..100, lifetime in 0u64..100, waited in 0u64..200,
            max_age in proptest::option::of(0u64..100),
        ) {
            let own = Times { received: 1000, age, lifetime, ..Times::default() };
            let wishes = Wishes { max_age, ..Wishes::default() };
            if own.judge(&wishes, 1000 + waited) == Use::Fresh {
                proptest::prop_assert!(age + waited < lifetime);
            }
        }
    }
}
