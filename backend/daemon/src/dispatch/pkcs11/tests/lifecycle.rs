//! The life of a key against a model, thirty days passing in no time: any sequence of the API's calls answers with the
//! status, the states and the dates that the model says, and a version is usable exactly when it should be.

use aws_lc_rs::rsa::{OAEP_SHA256_MGF1SHA256, OaepPublicEncryptingKey, PublicEncryptingKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use kms_core::api::{
    self, AccessScope, Algorithm, Description, DisplayName, KeyPath, KeyState, Operation, Outcome, Page,
    Protection, RingPath, Status, Tags, VersionPath, VersionState, WrappingAlgorithm, WrappingPurpose,
};
use proptest::prelude::*;
use proptest::test_runner::{Config as Cases, TestCaseError, TestRunner};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::Fixture;

/// A day in seconds.
const DAY: u64 = 24 * 60 * 60;

/// How long what is destroyed or deleted can be brought back.
const WINDOW: u64 = 30 * DAY;

/// How much later than the model the backend may read its clock, in seconds: the test itself takes time.
const LATE: u64 = 120;

/// How many lives are lived, and how many steps each has at most.
const LIVES: u32 = 24;
const STEPS: usize = 24;

/// What is done to the one key. Versions are numbered from 1; some of these numbers no version has.
#[derive(Clone, Copy, Debug)]
enum Step {
    Rotate,
    Import,
    Disable(u32),
    Enable(u32),
    Destroy(u32),
    RestoreVersion(u32),
    Delete,
    Restore,
    /// Days pass, and what is due is erased.
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let number = || 0..5_u32;
    prop_oneof![
        2 => Just(Step::Rotate),
        1 => Just(Step::Import),
        3 => number().prop_map(Step::Disable),
        3 => number().prop_map(Step::Enable),
        4 => number().prop_map(Step::Destroy),
        4 => number().prop_map(Step::RestoreVersion),
        2 => Just(Step::Delete),
        3 => Just(Step::Restore),
        4 => (1..40_u64).prop_map(Step::Wait),
    ]
}

/// A version as the model has it.
#[derive(Clone, Copy, Debug, Default)]
struct ModelVersion {
    disabled: bool,
    destroy_at: Option<u64>,
    erased: bool,
}

impl ModelVersion {
    fn state(self) -> VersionState {
        match self {
            Self { destroy_at: Some(_), .. } => VersionState::Destroyed,
            Self { disabled: true, .. } => VersionState::Disabled,
            Self { .. } => VersionState::Active,
        }
    }
}

/// The key as the model has it.
#[derive(Clone, Debug)]
struct Model {
    import_only: bool,
    now: u64,
    deletion_at: Option<u64>,
    gone: bool,
    versions: Vec<ModelVersion>,
}

impl Model {
    /// What a step answers, and does.
    fn take(&mut self, step: Step) -> Result<(), u16> {
        let deleted = self.deletion_at.is_some();
        match step {
            Step::Wait(days) => self.wait(days),
            _ if self.gone => return Err(404),
            Step::Delete if deleted => return Err(400),
            Step::Delete => self.deletion_at = Some(self.now + WINDOW),
            Step::Restore if !deleted => return Err(409),
            Step::Restore => self.deletion_at = None,
            Step::Rotate | Step::Import if deleted => return Err(409),
            Step::Rotate if self.import_only => return Err(403),
            Step::Rotate | Step::Import => self.versions.push(ModelVersion::default()),
            Step::Disable(number)
            | Step::Enable(number)
            | Step::Destroy(number)
            | Step::RestoreVersion(number) => {
                let index = usize::try_from(number).unwrap().checked_sub(1).ok_or(404_u16)?;
                let until = self.now + WINDOW;
                let version = self.versions.get_mut(index).ok_or(404_u16)?;
                if deleted {
                    return Err(409);
                }
                return change(version, step, until);
            }
        }
        Ok(())
    }

    fn wait(&mut self, days: u64) {
        self.now += days * DAY;
        let now = self.now;
        let due = |at: Option<u64>| at.is_some_and(|at| at <= now);
        self.gone |= due(self.deletion_at);
        for version in &mut self.versions {
            version.erased |= due(version.destroy_at);
        }
    }

    fn state(&self) -> KeyState {
        match self.deletion_at {
            Some(_) => KeyState::Deleted,
            None if self.versions.is_empty() => KeyState::NoVersion,
            None if self.versions.iter().any(|version| version.state() == VersionState::Active) => {
                KeyState::Active
            }
            None => KeyState::NotAvailable,
        }
    }
}

fn change(version: &mut ModelVersion, step: Step, until: u64) -> Result<(), u16> {
    match (step, version.destroy_at) {
        (Step::RestoreVersion(_), Some(_)) if !version.erased => version.destroy_at = None,
        (Step::Disable(_), None) => version.disabled = true,
        (Step::Enable(_), None) => version.disabled = false,
        (Step::Destroy(_), None) => version.destroy_at = Some(until),
        _ => return Err(409),
    }
    Ok(())
}

/// One key of a real backend, and its model.
struct Life<'a> {
    fixture: &'a Fixture,
    ring: RingPath,
    key: KeyPath,
    model: Model,
}

impl<'a> Life<'a> {
    fn begin(fixture: &'a Fixture, ring: RingPath, import_only: bool) -> Self {
        let ask = api::CreateKey {
            display_name: DisplayName::new("life").unwrap(),
            description: Description::default(),
            algorithm: Algorithm::Aes256Gcm,
            protection: Protection::Software,
            import_only,
            access_scope: AccessScope::Public,
            tags: Tags::default(),
            rotation_days: None,
        };
        let made = serve(fixture, Operation::CreateKey { ring, ask, repeat: None });
        let Ok(Outcome::Key(made)) = made else { panic!("no key") };
        let versions = if import_only { vec![] } else { vec![ModelVersion::default()] };
        let now = fixture.backend.dispatch().clock.seconds();
        let model = Model { import_only, now, deletion_at: None, gone: false, versions };
        Self { fixture, ring, key: KeyPath { ring, key: made.id }, model }
    }

    fn version(&self, number: u32) -> VersionPath {
        VersionPath { key: self.key, number: number.into() }
    }

    /// Takes a step on both sides, and compares what they answer and what is there afterwards.
    fn take(&mut self, step: Step) -> Result<(), TestCaseError> {
        let operation = match step {
            Step::Wait(days) => {
                let dispatch = self.fixture.backend.dispatch();
                dispatch.clock.advance(days * DAY);
                dispatch.run_due_jobs();
                self.model.wait(days);
                return self.compare();
            }
            Step::Rotate => Operation::RotateKey(self.key),
            Step::Import => Operation::ImportKey { key: self.key, ask: upload(self.fixture, self.ring) },
            Step::Disable(number) => Operation::DisableVersion(self.version(number)),
            Step::Enable(number) => Operation::EnableVersion(self.version(number)),
            Step::Destroy(number) => Operation::DestroyVersion(self.version(number)),
            Step::RestoreVersion(number) => Operation::RestoreVersion(self.version(number)),
            Step::Delete => Operation::DeleteKey(self.key),
            Step::Restore => Operation::RestoreKey(self.key),
        };
        let expected = self.model.take(step);
        let answered = serve(self.fixture, operation).map(drop);
        prop_assert_eq!(
            answered.as_ref().map_err(|problem| problem.status.code()),
            expected.as_ref().map_err(|code| *code),
            "{:?} {:?}",
            step,
            answered
        );
        self.compare()
    }

    /// That key, versions, dates and use are what the model says.
    fn compare(&self) -> Result<(), TestCaseError> {
        let seen = serve(self.fixture, Operation::GetKey(self.key));
        if self.model.gone {
            prop_assert_eq!(seen.map(drop).map_err(|problem| problem.status), Err(Status::NotFound));
            return Ok(());
        }
        let Ok(Outcome::Key(key)) = seen else { return Err(TestCaseError::fail("the key is not there")) };
        prop_assert_eq!(key.state, self.model.state());
        near(key.deletion_date, self.model.deletion_at)?;
        let listed = serve(self.fixture, Operation::ListVersions { key: self.key, page: Page::default() });
        let Ok(Outcome::Versions(listed)) = listed else { return Err(TestCaseError::fail("no versions")) };
        prop_assert_eq!(listed.versions.len(), self.model.versions.len());
        for (number, (version, model)) in (1..).zip(listed.versions.iter().zip(&self.model.versions)) {
            prop_assert_eq!((version.number, version.disabled), (number, model.disabled));
            prop_assert_eq!(version.state, model.state(), "version {}", number);
            near(version.destroy_date, model.destroy_at)?;
            let data = api::Data(Zeroizing::new(b"data".to_vec()));
            let encrypt = Operation::Encrypt { version: self.version(number), data, aad: vec![] };
            let usable = self.model.deletion_at.is_none() && model.state() == VersionState::Active;
            let expected = if usable { Ok(()) } else { Err(409) };
            let used = serve(self.fixture, encrypt).map(drop).map_err(|problem| problem.status.code());
            prop_assert_eq!(used, expected, "version {}", number);
        }
        Ok(())
    }
}

/// That a date is the model's, or a little later.
fn near(date: Option<api::Time>, model: Option<u64>) -> Result<(), TestCaseError> {
    let late = date.zip(model).map(|(date, model)| date.0.wrapping_sub(model));
    prop_assert_eq!((date.is_some(), late.is_none_or(|late| late <= LATE)), (model.is_some(), true));
    Ok(())
}

/// An answer, as the owner.
fn serve(fixture: &Fixture, operation: Operation) -> Result<Outcome, api::Problem> {
    let grants = vec![api::Grant { role: api::Role::Owner, project: None, ring: None }];
    let account = api::Account { id: Uuid::from_u128(1), email: "owner@test".to_owned(), grants };
    let context = api::RequestContext {
        account: std::sync::Arc::new(account),
        source: std::net::Ipv4Addr::LOCALHOST.into(),
        agent: "life".into(),
        endpoint: "TEST /".to_owned(),
        trace: Uuid::from_u128(2),
    };
    fixture.backend.dispatch().serve(&context, operation)
}

/// Material under a wrapping key of its own: the one of before may have expired.
fn upload(fixture: &Fixture, ring: RingPath) -> api::ImportKey {
    let ask = api::CreateWrappingKey {
        display_name: DisplayName::new("way-in").unwrap(),
        description: Description::default(),
        algorithm: WrappingAlgorithm::Rsa2048OaepSha256,
        purpose: WrappingPurpose::WrapSymmetricKey,
        protection: Protection::Software,
        access_scope: AccessScope::Public,
    };
    let made = serve(fixture, Operation::CreateWrappingKey { ring, ask, repeat: None });
    let Ok(Outcome::WrappingKey(made)) = made else { panic!("no wrapping key") };
    let pem = made.public_key.unwrap();
    let inside: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let public = PublicEncryptingKey::from_der(&STANDARD.decode(inside).unwrap()).unwrap();
    let public = OaepPublicEncryptingKey::new(public).unwrap();
    let mut wrapped = vec![0; public.ciphertext_size()];
    public.encrypt(&OAEP_SHA256_MGF1SHA256, &[3; 32], &mut wrapped, None).unwrap();
    api::ImportKey { wrapping_key: made.id, wrapped }
}

#[test]
fn every_life_is_as_the_model_says() {
    let Some(fixture) = Fixture::new("lifecycle::every_life_is_as_the_model_says") else { return };
    let ask = api::CreateKeyRing {
        display_name: DisplayName::new("lives").unwrap(),
        description: Description::default(),
    };
    let project = Uuid::nil();
    let made = serve(&fixture, Operation::CreateKeyRing { project, ask, repeat: None });
    let Ok(Outcome::KeyRing(made)) = made else { panic!("no ring") };
    let ring = RingPath { project, ring: made.id };
    let mut runner = TestRunner::new(Cases { cases: LIVES, ..Cases::default() });
    let lives = (any::<bool>(), prop::collection::vec(step(), 1..STEPS));
    let lived = runner.run(&lives, |(import_only, steps)| {
        let mut life = Life::begin(&fixture, ring, import_only);
        life.compare()?;
        steps.into_iter().try_for_each(|step| life.take(step))
    });
    lived.unwrap_or_else(|error| panic!("{error}"));
}
