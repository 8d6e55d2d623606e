//! [`Condition`]: the CEL expression of a binding, compiled once and cheap for certain.
//!
//! What may stand in it is decided here, on the syntax tree, when the binding is written: literals,
//! fields of `request`, operators and a few functions. There are no loops, no regular expressions
//! and no functions that make text longer, so what an evaluation costs is bounded by the size of the
//! expression.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, LazyLock},
};

use cel::{
    Context, Env, IdedExpr, Program, Value,
    common::{
        ast::Expr,
        types::{CelString, CelTimestamp},
        value::CowVal,
    },
    context::VariableResolver,
};
use jiff::Timestamp;

use super::principals::SubjectName;

/// A compiled condition.
#[derive(Debug)]
pub(super) struct Condition {
    source: Arc<str>,
    /// None: it was stored by a version that understood more.
    program: Option<Program>,
}

/// What a condition can ask of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts<'a> {
    /// `request.time`
    pub(crate) now: Timestamp,
    /// `request.verb`
    pub(crate) verb: &'a str,
    /// `request.resource` and `request.group`, as the qualified name: few conditions ask for them.
    pub(crate) resource: &'a str,
    /// `request.subresource`
    pub(crate) subresource: &'a str,
    /// `request.namespace`
    pub(crate) namespace: &'a str,
    /// `request.name`
    pub(crate) name: &'a str,
    /// `request.user`: the whole name, `system:serviceaccount:web:ci` for a service account.
    pub(crate) user: Option<&'a SubjectName>,
}

/// Parts that an expression is made of.
const NODES_MAX: usize = 128;
/// Brackets and operators within one another.
const DEPTH_MAX: usize = 24;
/// Length of an expression.
const BYTES_MAX: usize = 1024;

const FIELDS: &[&str] =
    &["time", "verb", "group", "resource", "subresource", "namespace", "name", "user"];

/// Operators and functions, all of them without loops.
const FUNCTIONS: &[&str] = &[
    "_&&_",
    "_||_",
    "!_",
    "_?_:_",
    "_==_",
    "_!=_",
    "_<_",
    "_<=_",
    "_>_",
    "_>=_",
    "@in",
    "_-_",
    "_+_",
    "-_",
    "startsWith",
    "endsWith",
    "contains",
    "size",
    "timestamp",
    "duration",
    "getFullYear",
    "getMonth",
    "getDate",
    "getDayOfMonth",
    "getDayOfWeek",
    "getDayOfYear",
    "getHours",
    "getMinutes",
];

static ENV: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(Env::stdlib()));

impl Condition {
    /// Compiles `source`.
    ///
    /// # Errors
    /// What is wrong with it, as the rest of a sentence.
    pub(super) fn compile(source: &str) -> Result<Self, String> {
        if source.len() > BYTES_MAX {
            return Err(format!("must have at most {BYTES_MAX} bytes"));
        }
        if nesting(source) > DEPTH_MAX {
            return Err(format!("must not nest deeper than {DEPTH_MAX}"));
        }
        // The parser is somebody else's, and reads what anybody may write.
        let compiled = catch_unwind(AssertUnwindSafe(|| ENV.compile(source)));
        let program = compiled
            .map_err(|_panic| "is not an expression of CEL".to_owned())?
            .map_err(|errors| format!("is not an expression of CEL: {}", first_line(&errors)))?;
        let mut nodes = 0;
        check(program.expression(), 0, &mut nodes)?;
        let condition = Self { source: source.into(), program: Some(program) };
        match condition.evaluate(&Facts::SAMPLE) {
            Ok(_) => Ok(condition),
            Err(message) => Err(format!("must be true or false for any request: {message}")),
        }
    }

    /// A condition that cannot be compiled here: it holds for nobody, and denies everybody.
    pub(super) fn broken(source: &str) -> Self {
        Self { source: source.into(), program: None }
    }

    pub(super) fn source(&self) -> &Arc<str> {
        &self.source
    }

    /// Whether the condition holds.
    ///
    /// # Errors
    /// It cannot be said: overflow, or values of different types.
    pub(super) fn evaluate(&self, facts: &Facts<'_>) -> Result<bool, String> {
        let Some(program) = &self.program else { return Err("it does not compile".to_owned()) };
        let evaluated = catch_unwind(AssertUnwindSafe(|| {
            let mut context = Context::with_env(Arc::clone(&ENV));
            context.set_variable_resolver(facts);
            program.execute(&context)
        }));
        match evaluated {
            Ok(Ok(Value::Bool(holds))) => Ok(holds),
            Ok(Ok(_)) => Err("it is neither true nor false".to_owned()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_panic) => Err("its evaluation failed".to_owned()),
        }
    }
}

impl Facts<'_> {
    const SAMPLE: Facts<'static> = Facts {
        now: Timestamp::UNIX_EPOCH,
        verb: "get",
        resource: "anycastservices.network.isocast.dev",
        subresource: "",
        namespace: "web-prod",
        name: "www",
        user: None,
    };
}

impl VariableResolver for Facts<'_> {
    fn resolve<'b>(&'b self, variable: &str) -> Option<CowVal<'b, 'b>> {
        let text = match variable.strip_prefix("request.")? {
            "time" => {
                let time = chrono::DateTime::from_timestamp(
                    self.now.as_second(),
                    self.now.subsec_nanosecond().unsigned_abs(),
                )?;
                return Some(CowVal::owned(CelTimestamp::from(time.fixed_offset())));
            }
            "verb" => self.verb,
            "group" => self.resource.split_once('.').map_or("", |(_, group)| group),
            "resource" => self.resource.split_once('.').map_or(self.resource, |(plural, _)| plural),
            "subresource" => self.subresource,
            "namespace" => self.namespace,
            "name" => self.name,
            "user" => {
                let name = self.user.map(SubjectName::username).unwrap_or_default();
                return Some(CowVal::owned(CelString::from(name)));
            }
            _ => return None,
        };
        Some(CowVal::owned(CelString::from(text)))
    }
}

/// Refuses whatever is not known to be cheap.
fn check(node: &IdedExpr, depth: usize, nodes: &mut usize) -> Result<(), String> {
    *nodes += 1;
    if *nodes > NODES_MAX {
        return Err(format!("must have at most {NODES_MAX} parts"));
    }
    if depth > DEPTH_MAX {
        return Err(format!("must not nest deeper than {DEPTH_MAX}"));
    }
    match &node.expr {
        Expr::Literal(_) => Ok(()),
        Expr::Select(select) if !select.test => match &select.operand.expr {
            Expr::Ident(name) if name == "request" && FIELDS.contains(&select.field.as_str()) => {
                Ok(())
            }
            _ => Err(format!("only request.{} can be asked for", FIELDS.join(", request."))),
        },
        Expr::List(list) => {
            list.elements.iter().try_for_each(|element| check(element, depth + 1, nodes))
        }
        Expr::Call(call) => {
            if !FUNCTIONS.contains(&call.func_name.as_str()) {
                return Err(format!("must not use {:?}", call.func_name));
            }
            let parts = call.target.as_deref().into_iter().chain(&call.args);
            parts.into_iter().try_for_each(|part| check(part, depth + 1, nodes))
        }
        Expr::Ident(name) => Err(format!("must not use {name:?}: fields are of request")),
        _ => Err("must not use loops, maps, structures or has()".to_owned()),
    }
}

/// How deep brackets, signs and conditionals may go, at most: the parser descends as far.
fn nesting(source: &str) -> usize {
    let (mut depth, mut deepest, mut signs) = (0_usize, 0, 0_usize);
    for byte in source.bytes() {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            b'!' | b'-' | b'?' => signs += 1,
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest + signs
}

fn first_line(errors: &impl ToString) -> String {
    errors.to_string().lines().next().unwrap_or_default().chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(source: &str) -> Result<bool, String> {
        let now = "2026-11-22T14:30:00Z".parse().unwrap();
        Condition::compile(source)?.evaluate(&Facts { now, ..Facts::SAMPLE })
    }

    #[test]
    fn conditions_ask_for_what_is_known_of_a_request() {
        for yes in [
            "true",
            "request.verb in ['get', 'list']",
            "request.name.startsWith('w') && request.namespace == \"web-prod\"",
            "request.time < timestamp('2027-01-01T00:00:00Z')",
            "request.time.getHours() == 14",
            "request.time.getHours('Europe/Amsterdam') == 15",
            "request.user != 'bob' || request.resource == 'nodes'",
            "request.resource == 'anycastservices' && request.group == 'network.isocast.dev'",
        ] {
            assert_eq!(holds(yes), Ok(true), "{yes}");
        }
        assert_eq!(holds("request.subresource == 'status'"), Ok(false));
    }

    #[test]
    fn a_service_account_is_told_from_a_user_of_its_name() {
        let condition = "request.user == 'system:serviceaccount:web:ci'";
        let condition = Condition::compile(condition).unwrap();
        let holds = |subject: &SubjectName| {
            condition.evaluate(&Facts { user: Some(subject), ..Facts::SAMPLE })
        };
        assert_eq!(holds(&SubjectName::ServiceAccount("web".into(), "ci".into())), Ok(true));
        assert_eq!(holds(&SubjectName::User("ci".into())), Ok(false));
    }

    #[test]
    fn what_is_no_condition_is_refused() {
        for bad in [
            "",
            "1 +",
            "1",
            "'yes'",
            "user == 'alice'",
            "request.secret == 1",
            "request == 1",
            "request.verb < 1",
            "[1, 2].all(x, x > 0)",
            "request.name.matches('(a+)+$')",
            "{'a': 1}.a == 1",
            "has(request.name)",
            "'a'.upperAscii() == 'A'",
            "\u{0}",
            "'",
            "request.name[0] == 'w'",
        ] {
            assert!(Condition::compile(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn hostile_expressions_are_refused_before_they_cost_anything() {
        let deep = |open: &str, close: &str| {
            format!("{}true{}", open.repeat(400 / open.len()), close.repeat(400 / open.len()))
        };
        for bad in [
            deep("(", ")"),
            deep("!", ""),
            deep("-", ""),
            deep("[", "]"),
            deep("(!", ")"),
            "true?".repeat(200),
            format!("{}true", "true && ".repeat(127)),
            "x".repeat(BYTES_MAX + 1),
            "(".repeat(1000),
            "a.".repeat(500),
        ] {
            assert!(Condition::compile(&bad).is_err(), "{bad}");
        }
    }
}
