//! The child process of `kms doctor`: loads the PKCS#11 module as an application does, and reports each step on
//! standard output.
//!
//! An event is one JSON object on a line. Each step is announced before it starts, so that the last event names the
//! step in which the child crashed. The PIN is passed on standard input, which other users cannot see.

use std::fmt::Display;
use std::io::{self, Read};
use std::process::ExitCode;

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::object::{Attribute, ObjectClass};
use cryptoki::session::{Session, UserType};
use cryptoki::slot::Slot;
use cryptoki::types::AuthPin;
use serde_json::{Value, json};

use super::arguments::ModuleProbe;
use super::failure::Failure;
use super::output;
use crate::pins::PIN_BYTES_MAX;

/// A step of the probe.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Step {
    /// Load and initialise the module.
    Module,
    /// Find the ring's token.
    Token,
    /// List its mechanisms.
    Mechanisms,
    /// Log in.
    Login,
    /// Find its keys.
    Keys,
    /// Finalise the module and exit.
    End,
}

impl Step {
    pub(super) const ALL: [Self; 6] =
        [Self::Module, Self::Token, Self::Mechanisms, Self::Login, Self::Keys, Self::End];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Module => "module",
            Self::Token => "token",
            Self::Mechanisms => "mechanisms",
            Self::Login => "login",
            Self::Keys => "keys",
            Self::End => "module's end",
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|step| step.name() == name)
    }
}

/// An event that the child reports.
#[derive(Debug)]
pub(super) enum Event {
    /// The step starts.
    Started(Step),
    /// The step has finished.
    Finished(Step, Result<String, Failure>),
    /// The step is skipped, and the reason.
    Skipped(Step, String),
}

/// Parses a line of the child's output; returns nothing for a line that the module printed.
pub(super) fn parse_event(line: &str) -> Option<Event> {
    let value: Value = serde_json::from_str(line).ok()?;
    let text = |key: &str| Some(value.get(key)?.as_str()?.to_owned());
    let step = Step::from_name(&text("step")?)?;
    match text("says")?.as_str() {
        "begins" => Some(Event::Started(step)),
        "ok" => Some(Event::Finished(step, Ok(text("detail")?))),
        "failed" => Some(Event::Finished(step, Err(Failure::new(text("detail")?, text("next")?)))),
        "skips" => Some(Event::Skipped(step, text("detail")?)),
        _ => None,
    }
}

fn report_started(step: Step) {
    output::json_line(&json!({ "step": step.name(), "says": "begins" }));
}

fn report_skipped(step: Step, why: &str) {
    output::json_line(&json!({ "step": step.name(), "says": "skips", "detail": why }));
}

fn report_passed(step: Step, detail: &dyn Display) {
    output::json_line(&json!({ "step": step.name(), "says": "ok", "detail": detail.to_string() }));
}

/// Reports the step that failed, which ends the probe.
fn report_failed(step: Step, failure: &Failure) {
    let (detail, next) = (&failure.what, &failure.next);
    output::json_line(&json!({ "step": step.name(), "says": "failed", "detail": detail, "next": next }));
}

/// Executes the steps until one fails. Results are reported as events; the exit code only shows that the child did not
/// crash.
pub(super) fn run(arguments: &ModuleProbe) -> ExitCode {
    if let Err((step, failure)) = probe(arguments) {
        report_failed(step, &failure);
    }
    ExitCode::SUCCESS
}

type StepFailure = (Step, Failure);

fn probe(arguments: &ModuleProbe) -> Result<(), StepFailure> {
    let pin = read_pin()
        .map_err(|error| (Step::Login, Failure::because("cannot read the PIN", &error, "try again")))?;

    report_started(Step::Module);
    let module = load(arguments).map_err(|failure| (Step::Module, failure))?;
    let info = module.get_library_info().map_err(|error| (Step::Module, unexpected(&error)))?;
    let version = info.library_version();
    report_passed(
        Step::Module,
        &format!("{} {}.{}", arguments.module.display(), version.major(), version.minor()),
    );

    report_started(Step::Token);
    let (slot, label) =
        token(&module, arguments.ring.as_deref()).map_err(|failure| (Step::Token, failure))?;
    report_passed(Step::Token, &format!("{label:?} in slot {}", slot.id()));

    report_started(Step::Mechanisms);
    let mechanisms =
        module.get_mechanism_list(slot).map_err(|error| (Step::Mechanisms, unexpected(&error)))?;
    report_passed(Step::Mechanisms, &format!("{} offered", mechanisms.len()));

    let Some(pin) = pin else {
        let why = "no PIN: name a file that contains it with --pin-file";
        report_skipped(Step::Login, why);
        report_skipped(Step::Keys, why);
        return finalise(module);
    };
    report_started(Step::Login);
    let session = login(&module, slot, &pin).map_err(|failure| (Step::Login, failure))?;
    report_passed(Step::Login, &"the user's PIN is correct");

    report_started(Step::Keys);
    let keys = keys(&session).map_err(|error| (Step::Keys, unexpected(&error)))?;
    report_passed(Step::Keys, &keys);

    session.close().map_err(|error| (Step::End, unexpected(&error)))?;
    finalise(module)
}

fn finalise(module: Pkcs11) -> Result<(), StepFailure> {
    report_started(Step::End);
    module.finalize().map_err(|error| (Step::End, unexpected(&error)))?;
    report_passed(Step::End, &"finalised");
    Ok(())
}

/// Reads the PIN from standard input; none if that is empty.
fn read_pin() -> io::Result<Option<AuthPin>> {
    let limit = u64::try_from(PIN_BYTES_MAX).unwrap_or(u64::MAX);
    let mut pin = String::new();
    io::stdin().lock().take(limit).read_to_string(&mut pin)?;
    Ok((!pin.is_empty()).then(|| AuthPin::from(pin)))
}

fn load(arguments: &ModuleProbe) -> Result<Pkcs11, Failure> {
    let path = arguments.module.display();
    let module = Pkcs11::new(&arguments.module).map_err(|error| {
        Failure::because(
            format!("cannot load {path}"),
            &error,
            "name a module that was built for this machine with --module",
        )
    })?;
    module.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)).map_err(|error| {
        let next = "correct pkcs11.toml, the configuration of the module";
        Failure::because(format!("cannot initialise {path}"), &error, next)
    })?;
    Ok(module)
}

/// Finds the token of the ring, or the first token.
fn token(module: &Pkcs11, ring: Option<&str>) -> Result<(Slot, String), Failure> {
    let mut labels = Vec::new();
    for slot in module.get_slots_with_initialized_token().map_err(|error| unexpected(&error))? {
        let info = module.get_token_info(slot).map_err(|error| unexpected(&error))?;
        if ring.is_none_or(|ring| ring == info.label()) {
            return Ok((slot, info.label().to_owned()));
        }
        labels.push(info.label().to_owned());
    }
    if labels.is_empty() {
        let next = "start the daemon; if it runs, check that this user can access its socket, and that pkcs11.toml sets server_uid \
                    to the daemon's user if that is neither root nor the owner of the socket's folder";
        return Err(Failure::new("the module lists no token", next));
    }
    let (wanted, labels) = (ring.unwrap_or_default(), labels.join(", "));
    Err(Failure::new(
        format!("the module lists no token {wanted:?}, only {labels}"),
        "name one of them with --ring",
    ))
}

fn login(module: &Pkcs11, slot: Slot, pin: &AuthPin) -> Result<Session, Failure> {
    let session = module.open_ro_session(slot).map_err(|error| unexpected(&error))?;
    match session.login(UserType::User, Some(pin)) {
        Ok(()) => Ok(session),
        Err(Error::Pkcs11(RvError::PinIncorrect, _)) => {
            let next = "name a file with the PIN with --pin-file: the one in `credentials` may be outdated";
            Err(Failure::new("the user's PIN is wrong", next))
        }
        Err(error) => Err(unexpected(&error)),
    }
}

fn keys(session: &Session) -> Result<String, Error> {
    let count = |class| Ok::<_, Error>(session.find_objects(&[Attribute::Class(class)])?.len());
    let (secret, private) = (count(ObjectClass::SECRET_KEY)?, count(ObjectClass::PRIVATE_KEY)?);
    let public = count(ObjectClass::PUBLIC_KEY)?;
    Ok(format!("{secret} secret, {private} private, {public} public"))
}

/// The failure for a return code that the step does not expect.
fn unexpected(error: &Error) -> Failure {
    Failure::new(kms_core::error_chain(error), "see the daemon's log for the cause")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_of_the_module_is_not_an_event() {
        for line in [
            "",
            "hello",
            "{}",
            "[]",
            "{\"step\":\"module\"}",
            "{\"step\":\"x\",\"says\":\"ok\",\"detail\":\"\"}",
        ] {
            assert!(parse_event(line).is_none(), "{line}");
        }
    }

    #[test]
    fn the_names_of_steps_are_distinct() {
        for step in Step::ALL {
            assert_eq!(Step::from_name(step.name()), Some(step));
        }
    }

    #[test]
    fn a_failure_is_parsed_completely() {
        let event = parse_event(r#"{"step":"login","says":"failed","detail":"what","next":"then"}"#);
        match event {
            Some(Event::Finished(Step::Login, Err(failure))) => {
                assert_eq!((failure.what.as_str(), failure.next.as_str()), ("what", "then"));
            }
            other => panic!("{other:?}"),
        }
    }
}
