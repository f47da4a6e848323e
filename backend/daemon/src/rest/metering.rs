//! Counts calls against the quota of their project, and refused calls against the caller's own (docs/decisions/0052).
//!
//! A call is counted for the project before it is performed; when its response says that it was refused, it moves to the
//! caller's own count. So nobody uses up a project's calls with calls that are refused.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Body;
use axum::http::Response;
use kms_core::api::{Account, Problem, Status};
use uuid::Uuid;

use super::respond::{self, Rejection};
use super::state::RestState;
use crate::fairness::{Allowance, Exhausted, Quota};

/// How long it is remembered whether a project has other callers, in seconds.
const OTHERS_KNOWN_FOR: u64 = 60;

/// The maximum number of projects and callers for which that is remembered.
const OTHERS_MAX: usize = 1000;

/// What a call is counted under.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum Counted {
    /// All calls of a project that were not refused.
    Project(Uuid),
    /// Those of one account in a project.
    Share { project: Uuid, account: Uuid },
    /// An account's calls that were refused, its calls in projects of others, and its requests for tokens.
    Own(Uuid),
}

/// The counts of all callers.
#[derive(Debug, Default)]
pub(super) struct Meter {
    calls: Quota<Counted>,
    /// Whether a project has other callers than an account, and when that was found out.
    others: Mutex<HashMap<(Uuid, Uuid), (u64, bool)>>,
}

/// How a call was counted.
#[derive(Debug, Default)]
pub(super) struct Metered {
    allowance: Option<Allowance>,
    /// Project, account and time of a call that is counted for its project.
    counted: Option<(Uuid, Uuid, u64)>,
}

impl RestState {
    /// Counts a call before it is performed: for the project if the account has a grant in it, else for the account, so
    /// that it cannot use up the quota of another's project.
    pub(super) async fn count_call(
        &self,
        account: &Account,
        project: Uuid,
        now: u64,
        metered: &mut Metered,
    ) -> Result<(), Rejection> {
        let limit = self.settings.load().calls_per_hour;
        let has_grant =
            account.grants.iter().any(|grant| grant.project.is_none_or(|granted| granted == project));
        let own = Counted::Own(account.id);
        if !has_grant {
            let allowance = self.meter.calls.take(own, now, limit);
            let allowance = allowance.map_err(|full| self.exhausted(full, own_is_used_up(limit), metered))?;
            metered.allowance = Some(allowance);
            return Ok(());
        }
        // Who has used up the own count has done so with calls that were refused, and may expect no better of the next.
        let checked = self.meter.calls.check(own, now, limit);
        checked.map_err(|full| self.exhausted(full, own_is_used_up(limit), metered))?;
        let keys = (Counted::Project(project), Counted::Share { project, account: account.id });
        let shared = match self.meter.calls.shortage(keys, now, limit) {
            Some(false) => self.has_others(project, account.id, now).await?,
            Some(true) | None => true,
        };
        let taken = self.meter.calls.take_share(keys, now, limit, shared);
        let allowance = taken.map_err(|full| {
            let left = limit.saturating_sub(self.meter.calls.total(keys.0, now));
            let message = if left == 0 {
                format!("the project has used its {limit} calls of this hour")
            } else {
                format!(
                    "this account has used its share of the project's {limit} calls of this hour: the {left} that are \
                     left are for accounts that have made fewer"
                )
            };
            self.exhausted(full, message, metered)
        })?;
        metered.allowance = Some(allowance);
        metered.counted = Some((project, account.id, now));
        Ok(())
    }

    /// Counts a call of an account that is no call of a project.
    pub(super) fn count_own(&self, account: Uuid, now: u64) -> Result<(), Rejection> {
        let limit = self.settings.load().calls_per_hour;
        let taken = self.meter.calls.take(Counted::Own(account), now, limit);
        let mut metered = Metered::default();
        taken.map(drop).map_err(|full| self.exhausted(full, own_is_used_up(limit), &mut metered))
    }

    /// Moves a call that was refused to the caller's own count, and sets the headers that report the quota.
    pub(super) fn settle(&self, metered: Metered, response: &mut Response<Body>) {
        let Metered { mut allowance, counted } = metered;
        let refused = response.status().is_client_error();
        if let Some((project, account, then)) = counted.filter(|_| refused) {
            let (now, limit) = (self.backend.now(), self.settings.load().calls_per_hour);
            self.meter.calls.take_back(Counted::Share { project, account }, then, now, limit);
            allowance = Some(self.meter.calls.take_back(Counted::Project(project), then, now, limit));
            // Calls that run at the same time may go beyond the limit by their number.
            self.meter.calls.add(Counted::Own(account), now);
        }
        if let Some(allowance) = allowance {
            respond::set_rate_limit_headers(response, &allowance);
        }
    }

    /// Whether a project has other callers than this account.
    async fn has_others(&self, project: Uuid, account: Uuid, now: u64) -> Result<bool, Problem> {
        let key = (project, account);
        let known = self.meter.others.lock().unwrap_or_else(PoisonError::into_inner).get(&key).copied();
        if let Some((_, others)) = known.filter(|(at, _)| now.saturating_sub(*at) < OTHERS_KNOWN_FOR) {
            return Ok(others);
        }
        let backend = Arc::clone(&self.backend);
        let others = self.blocking_pool.run(move || backend.has_other_callers(project, account)).await?;
        let mut known = self.meter.others.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= OTHERS_MAX {
            known.clear();
        }
        known.insert(key, (now, others));
        Ok(others)
    }

    fn exhausted(&self, full: Exhausted, message: String, metered: &mut Metered) -> Rejection {
        let Exhausted(allowance) = full;
        self.metrics.quota_refused();
        metered.allowance = Some(allowance);
        let problem = Problem::new(Status::TooMany, message);
        Rejection { problem, retry_after: Some(allowance.reset) }
    }
}

fn own_is_used_up(limit: u32) -> String {
    format!(
        "this account has made {limit} calls within this hour that were refused, concerned projects in which it has no \
         role, or requested tokens"
    )
}
