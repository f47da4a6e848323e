//! The lifecycle of a key, compared with a model while the clock is advanced: any sequence of operations returns the
//! status, the states and the dates that the model predicts, and a version is usable exactly when the model says so.

use aws_lc_rs::rsa::{OAEP_SHA256_MGF1SHA256, OaepPublicEncryptingKey, PublicEncryptingKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use kms_core::api::{
    self, AccessScope, Algorithm, Description, DisplayName, KeyPath, KeyState, Operation, Outcome, Page,
    Protection, RingPath, Status, Tags, VersionPath, VersionState, WrappingAlgorithm, WrappingPurpose,
};
use proptest::prelude::*;
use proptest::test_runner::{Config as Cases, TestCaseError, TestRunner};
use zeroize::Zeroizing;

use super::ApiFixture;

/// A day, in seconds.
const DAY: u64 = 24 * 60 * 60;

/// How long a destroyed version or a deleted key can be restored.
const RESTORE_PERIOD: u64 = 30 * DAY;

/// How far the backend's clock may be ahead of the model's, in seconds, because the test itself takes time.
const DELAY_MAX: u64 = 120;

/// The number of keys that are tested, and the maximum number of steps with each.
const KEYS: u32 = 24;
const STEPS: usize = 24;

/// An operation on the key. Versions are numbered from 1; some of the numbers are of no version.
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
    /// The clock is advanced by a number of days, and what is due is erased.
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

/// The model of a version.
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

/// The model of the key.
#[derive(Clone, Debug)]
struct Model {
    import_only: bool,
    now: u64,
    deletion_at: Option<u64>,
    erased: bool,
    versions: Vec<ModelVersion>,
}

impl Model {
    /// Performs a step, and returns the expected status.
    fn take(&mut self, step: Step) -> Result<(), u16> {
        let deleted = self.deletion_at.is_some();
        match step {
            Step::Wait(days) => self.wait(days),
            _ if self.erased => return Err(404),
            Step::Delete if deleted => return Err(400),
            Step::Delete => self.deletion_at = Some(self.now + RESTORE_PERIOD),
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
                let until = self.now + RESTORE_PERIOD;
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
        self.erased |= due(self.deletion_at);
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
struct TestedKey<'a> {
    fixture: &'a ApiFixture,
    ring: RingPath,
    key: KeyPath,
    model: Model,
}

impl<'a> TestedKey<'a> {
    fn create(fixture: &'a ApiFixture, ring: RingPath, import_only: bool) -> Self {
        let ask = api::CreateKey {
            display_name: DisplayName::new("key").unwrap(),
            description: Description::default(),
            algorithm: Algorithm::Aes256Gcm,
            protection: Protection::Software,
            import_only,
            access_scope: AccessScope::Public,
            tags: Tags::default(),
            rotation_days: None,
        };
        let created = fixture.serve(Operation::CreateKey { ring, ask, repeat: None });
        let Ok(Outcome::Key(created)) = created else { panic!("no key") };
        let versions = if import_only { vec![] } else { vec![ModelVersion::default()] };
        let now = fixture.backend.dispatch().clock.seconds();
        let model = Model { import_only, now, deletion_at: None, erased: false, versions };
        Self { fixture, ring, key: KeyPath { ring, key: created.id }, model }
    }

    fn version(&self, number: u32) -> VersionPath {
        VersionPath { key: self.key, number: number.into() }
    }

    /// Performs a step on the backend and the model, and compares their status and their state afterwards.
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
            Step::Import => {
                Operation::ImportKey { key: self.key, ask: wrapped_material(self.fixture, self.ring) }
            }
            Step::Disable(number) => Operation::DisableVersion(self.version(number)),
            Step::Enable(number) => Operation::EnableVersion(self.version(number)),
            Step::Destroy(number) => Operation::DestroyVersion(self.version(number)),
            Step::RestoreVersion(number) => Operation::RestoreVersion(self.version(number)),
            Step::Delete => Operation::DeleteKey(self.key),
            Step::Restore => Operation::RestoreKey(self.key),
        };
        let expected = self.model.take(step);
        let actual = self.fixture.serve(operation).map(drop);
        prop_assert_eq!(
            actual.as_ref().map_err(|problem| problem.status.code()),
            expected.as_ref().map_err(|code| *code),
            "{:?} {:?}",
            step,
            actual
        );
        self.compare()
    }

    /// Checks that the key, its versions, their dates and their use are as the model predicts.
    fn compare(&self) -> Result<(), TestCaseError> {
        let seen = self.fixture.serve(Operation::GetKey(self.key));
        if self.model.erased {
            prop_assert_eq!(seen.map(drop).map_err(|problem| problem.status), Err(Status::NotFound));
            return Ok(());
        }
        let Ok(Outcome::Key(key)) = seen else { return Err(TestCaseError::fail("the key is missing")) };
        prop_assert_eq!(key.state, self.model.state());
        compare_dates(key.deletion_date, self.model.deletion_at)?;
        let listed = self.fixture.serve(Operation::ListVersions { key: self.key, page: Page::default() });
        let Ok(Outcome::Versions(listed)) = listed else { return Err(TestCaseError::fail("no versions")) };
        prop_assert_eq!(listed.versions.len(), self.model.versions.len());
        for (number, (version, model)) in (1..).zip(listed.versions.iter().zip(&self.model.versions)) {
            prop_assert_eq!((version.number, version.disabled), (number, model.disabled));
            prop_assert_eq!(version.state, model.state(), "version {}", number);
            compare_dates(version.destroy_date, model.destroy_at)?;
            let data = api::Data(Zeroizing::new(b"data".to_vec()));
            let encrypt = Operation::Encrypt { version: self.version(number), data, aad: vec![] };
            let usable = self.model.deletion_at.is_none() && model.state() == VersionState::Active;
            let expected = if usable { Ok(()) } else { Err(409) };
            let used = self.fixture.serve(encrypt).map(drop).map_err(|problem| problem.status.code());
            prop_assert_eq!(used, expected, "version {}", number);
        }
        Ok(())
    }
}

/// Checks that a date is the model's, or at most [`DELAY_MAX`] later.
fn compare_dates(date: Option<api::Time>, model: Option<u64>) -> Result<(), TestCaseError> {
    let delay = date.zip(model).map(|(date, model)| date.0.wrapping_sub(model));
    prop_assert_eq!((date.is_some(), delay.is_none_or(|delay| delay <= DELAY_MAX)), (model.is_some(), true));
    Ok(())
}

/// Wraps material under a new wrapping key, because an older one may have expired.
fn wrapped_material(fixture: &ApiFixture, ring: RingPath) -> api::ImportKey {
    let ask = api::CreateWrappingKey {
        display_name: DisplayName::new("import").unwrap(),
        description: Description::default(),
        algorithm: WrappingAlgorithm::Rsa2048OaepSha256,
        purpose: WrappingPurpose::WrapSymmetricKey,
        protection: Protection::Software,
        access_scope: AccessScope::Public,
    };
    let created = fixture.serve(Operation::CreateWrappingKey { ring, ask, repeat: None });
    let Ok(Outcome::WrappingKey(created)) = created else { panic!("no wrapping key") };
    let pem = created.public_key.unwrap();
    let base64: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let public = PublicEncryptingKey::from_der(&STANDARD.decode(base64).unwrap()).unwrap();
    let public = OaepPublicEncryptingKey::new(public).unwrap();
    let mut wrapped = vec![0; public.ciphertext_size()];
    public.encrypt(&OAEP_SHA256_MGF1SHA256, &[3; 32], &mut wrapped, None).unwrap();
    api::ImportKey { wrapping_key: created.id, wrapped }
}

#[test]
fn every_key_behaves_as_the_model_predicts() {
    let Some(fixture) = ApiFixture::new("lifecycle::every_key_behaves_as_the_model_predicts") else { return };
    let mut runner = TestRunner::new(Cases { cases: KEYS, ..Cases::default() });
    let sequences = (any::<bool>(), prop::collection::vec(step(), 1..STEPS));
    let outcome = runner.run(&sequences, |(import_only, steps)| {
        let mut key = TestedKey::create(&fixture, fixture.ring, import_only);
        key.compare()?;
        steps.into_iter().try_for_each(|step| key.take(step))
    });
    outcome.unwrap_or_else(|error| panic!("{error}"));
}
