//! The doctor's child: loads the module as an application does, and says on standard output how far it comes.
//!
//! Each step is announced before it is taken, one JSON object on a line: where the child dies, the last word tells in
//! what. The PIN comes on standard input, which nobody else can see.

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

use super::arguments::Probe;
use super::failure::Failure;
use super::output;
use crate::pins::PIN_BYTES_MAX;

/// A step of the examination.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Step {
    /// Load the module and initialise it.
    Module,
    /// Find the ring's token.
    Token,
    /// List its mechanisms.
    Mechanisms,
    /// Log in.
    Login,
    /// Find its keys.
    Keys,
    /// Finalise the module and end.
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

    fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|step| step.name() == name)
    }
}

/// What the child says.
#[derive(Debug)]
pub(super) enum Word {
    /// This step begins.
    Begins(Step),
    /// This step is over.
    Ends(Step, Result<String, Failure>),
    /// This step is left out, and why.
    Skips(Step, String),
}

/// A line of the child's; none if it is not the child's but something the module printed.
pub(super) fn understand(line: &str) -> Option<Word> {
    let value: Value = serde_json::from_str(line).ok()?;
    let text = |key: &str| Some(value.get(key)?.as_str()?.to_owned());
    let step = Step::named(&text("step")?)?;
    match text("says")?.as_str() {
        "begins" => Some(Word::Begins(step)),
        "ok" => Some(Word::Ends(step, Ok(text("detail")?))),
        "failed" => Some(Word::Ends(step, Err(Failure::new(text("detail")?, text("next")?)))),
        "skips" => Some(Word::Skips(step, text("detail")?)),
        _ => None,
    }
}

fn begins(step: Step) {
    output::json_line(&json!({ "step": step.name(), "says": "begins" }));
}

fn skips(step: Step, why: &str) {
    output::json_line(&json!({ "step": step.name(), "says": "skips", "detail": why }));
}

fn ends(step: Step, detail: &dyn Display) {
    output::json_line(&json!({ "step": step.name(), "says": "ok", "detail": detail.to_string() }));
}

/// The step has failed; the examination is over.
fn failed(step: Step, failure: &Failure) {
    let (detail, next) = (&failure.what, &failure.next);
    output::json_line(&json!({ "step": step.name(), "says": "failed", "detail": detail, "next": next }));
}

/// Takes the steps until one fails. How it ends is said in words, so the exit code only tells that the child lived.
pub(super) fn run(arguments: &Probe) -> ExitCode {
    if let Err((step, failure)) = examine(arguments) {
        failed(step, &failure);
    }
    ExitCode::SUCCESS
}

type Stopped = (Step, Failure);

fn examine(arguments: &Probe) -> Result<(), Stopped> {
    let pin = read_pin()
        .map_err(|error| (Step::Login, Failure::because("no PIN can be read", &error, "try again")))?;

    begins(Step::Module);
    let module = load(arguments).map_err(|failure| (Step::Module, failure))?;
    let info = module.get_library_info().map_err(|error| (Step::Module, unexpected(&error)))?;
    let version = info.library_version();
    ends(Step::Module, &format!("{} {}.{}", arguments.module.display(), version.major(), version.minor()));

    begins(Step::Token);
    let (slot, label) =
        token(&module, arguments.ring.as_deref()).map_err(|failure| (Step::Token, failure))?;
    ends(Step::Token, &format!("{label:?} in slot {}", slot.id()));

    begins(Step::Mechanisms);
    let mechanisms =
        module.get_mechanism_list(slot).map_err(|error| (Step::Mechanisms, unexpected(&error)))?;
    ends(Step::Mechanisms, &format!("{} offered", mechanisms.len()));

    let Some(pin) = pin else {
        let why = "no PIN: name its file with --pin-file";
        skips(Step::Login, why);
        skips(Step::Keys, why);
        return finalise(module);
    };
    begins(Step::Login);
    let session = login(&module, slot, &pin).map_err(|failure| (Step::Login, failure))?;
    ends(Step::Login, &"the user's PIN is right");

    begins(Step::Keys);
    let keys = keys(&session).map_err(|error| (Step::Keys, unexpected(&error)))?;
    ends(Step::Keys, &keys);

    session.close().map_err(|error| (Step::End, unexpected(&error)))?;
    finalise(module)
}

fn finalise(module: Pkcs11) -> Result<(), Stopped> {
    begins(Step::End);
    module.finalize().map_err(|error| (Step::End, unexpected(&error)))?;
    ends(Step::End, &"finalised");
    Ok(())
}

/// The PIN on standard input; none if it is empty.
fn read_pin() -> io::Result<Option<AuthPin>> {
    let limit = u64::try_from(PIN_BYTES_MAX).unwrap_or(u64::MAX);
    let mut pin = String::new();
    io::stdin().lock().take(limit).read_to_string(&mut pin)?;
    Ok((!pin.is_empty()).then(|| AuthPin::from(pin)))
}

fn load(arguments: &Probe) -> Result<Pkcs11, Failure> {
    let path = arguments.module.display();
    let module = Pkcs11::new(&arguments.module).map_err(|error| {
        Failure::because(
            format!("{path} cannot be loaded"),
            &error,
            "name the module with --module, built for this machine",
        )
    })?;
    module.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)).map_err(|error| {
        let next = "correct pkcs11.toml: the module takes its configuration from there";
        Failure::because(format!("{path} cannot be initialised"), &error, next)
    })?;
    Ok(module)
}

/// The ring's token, or the first.
fn token(module: &Pkcs11, ring: Option<&str>) -> Result<(Slot, String), Failure> {
    let mut seen = Vec::new();
    for slot in module.get_slots_with_initialized_token().map_err(|error| unexpected(&error))? {
        let info = module.get_token_info(slot).map_err(|error| unexpected(&error))?;
        if ring.is_none_or(|ring| ring == info.label()) {
            return Ok((slot, info.label().to_owned()));
        }
        seen.push(info.label().to_owned());
    }
    if seen.is_empty() {
        let next = "start the daemon; if it runs, see that this user may use its socket";
        return Err(Failure::new("the module shows no token", next));
    }
    let (wanted, seen) = (ring.unwrap_or_default(), seen.join(", "));
    Err(Failure::new(
        format!("the module shows no token {wanted:?}, but {seen}"),
        "name one of them with --ring",
    ))
}

fn login(module: &Pkcs11, slot: Slot, pin: &AuthPin) -> Result<Session, Failure> {
    let session = module.open_ro_session(slot).map_err(|error| unexpected(&error))?;
    match session.login(UserType::User, Some(pin)) {
        Ok(()) => Ok(session),
        Err(Error::Pkcs11(RvError::PinIncorrect, _)) => {
            let next =
                "name the PIN's file with --pin-file: the one in `credentials` may have been changed since";
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

/// A code that the module should not answer here.
fn unexpected(error: &Error) -> Failure {
    Failure::new(kms_core::error_chain(error), "look at the daemon's log for the cause")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_module_prints_is_not_taken_for_ours() {
        for line in [
            "",
            "hello",
            "{}",
            "[]",
            "{\"step\":\"module\"}",
            "{\"step\":\"x\",\"says\":\"ok\",\"detail\":\"\"}",
        ] {
            assert!(understand(line).is_none(), "{line}");
        }
    }

    #[test]
    fn each_step_has_a_name_of_its_own() {
        for step in Step::ALL {
            assert_eq!(Step::named(step.name()), Some(step));
        }
    }

    #[test]
    fn a_failure_is_understood_whole() {
        let word = understand(r#"{"step":"login","says":"failed","detail":"what","next":"then"}"#);
        match word {
            Some(Word::Ends(Step::Login, Err(failure))) => {
                assert_eq!((failure.what.as_str(), failure.next.as_str()), ("what", "then"));
            }
            other => panic!("{other:?}"),
        }
    }
}
