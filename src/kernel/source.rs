//! WGSL text put together from its parts, parsed and validated by naga, with errors told in the lines of the part they lie in.

use std::error::Error;
use std::fmt;

use super::library;
use naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};

/// A text made of parts in order; errors in the user's part are told in its own lines.
#[derive(Debug, Clone, Default)]
pub(crate) struct Source {
    text: String,
    /// Bytes of the user's part.
    user: std::ops::Range<usize>,
}

impl Source {
    /// Adds a part of our own.
    pub(crate) fn part(mut self, text: &str) -> Self {
        self.text.push_str(text);
        self.text.push('\n');
        self
    }

    /// Adds the user's part.
    pub(crate) fn user_part(mut self, text: &str) -> Self {
        let start = self.text.len();
        self = self.part(text);
        self.user = start..start + text.len();
        self
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Parses the text.
    ///
    /// # Errors
    /// [`ShaderError`] with naga's words.
    pub(crate) fn parse(&self) -> Result<naga::Module, ShaderError> {
        naga::front::wgsl::parse_str(&self.text).map_err(|error| {
            let labels = error.labels().map(|(span, label)| (span, label.to_owned())).collect::<Vec<_>>();
            let notes = error.notes().map(str::to_owned).collect();
            self.error(error.message().to_owned(), &labels, notes)
        })
    }

    /// Parses and validates the text, for what every device can do: no f64, no subgroups.
    ///
    /// # Errors
    /// [`ShaderError`] with naga's words.
    pub(crate) fn check(&self) -> Result<(naga::Module, ModuleInfo), ShaderError> {
        let module = self.parse()?;
        let info =
            Validator::new(ValidationFlags::all(), Capabilities::default()).validate(&module).map_err(|error| {
                let mut notes = Vec::new();
                let mut source = error.as_inner().source();
                while let Some(cause) = source {
                    notes.push(cause.to_string());
                    source = cause.source();
                }
                let message = error.as_inner().to_string();
                self.error(message, &error.spans().cloned().collect::<Vec<_>>(), notes)
            })?;
        Ok((module, info))
    }

    fn error(&self, message: String, labels: &[(naga::Span, String)], notes: Vec<String>) -> ShaderError {
        let inside = |span: &naga::Span| span.to_range().is_some_and(|range| self.user.contains(&range.start));
        // A validator names the function first and then what is wrong inside.
        let length = |span: &naga::Span| span.to_range().map_or(0, |range| range.len());
        let in_user = labels.iter().filter(|(span, _)| inside(span)).min_by_key(|(span, _)| length(span));
        let place = in_user.map(|(span, _)| {
            let user = &self.text[self.user.clone()];
            let offset = span.to_range().map_or(0, |range| range.start - self.user.start);
            let before = &user[..offset];
            let line = before.matches('\n').count();
            let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
            Location {
                line: line + 1,
                column: user[line_start..offset].chars().count() + 1,
                text: user.lines().nth(line).unwrap_or_default().to_owned(),
            }
        });
        let message = match in_user.and_then(|(span, _)| span.to_range()).map(|range| &self.text[range]) {
            Some(word) if library::FUNCTIONS.contains(&word) && message.starts_with("redefinition") => {
                format!("`{word}` is a function of livepoint's library; call yours by another name")
            }
            _ => message,
        };
        let label = in_user.or(labels.first()).map(|(_, label)| label.clone()).filter(|label| !label.is_empty());
        ShaderError { message, place, notes: label.into_iter().chain(notes).collect() }
    }
}

/// A place in the user's text; both numbers count from 1, the column in characters.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Location {
    line: usize,
    column: usize,
    text: String,
}

/// WGSL that does not parse or does not validate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ShaderError {
    message: String,
    place: Option<Location>,
    notes: Vec<String>,
}

impl ShaderError {
    /// An error that is not naga's.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), place: None, notes: Vec::new() }
    }

    /// Line and column of the user's text, from 1, where they are known.
    pub(crate) fn line_column(&self) -> Option<(usize, usize)> {
        self.place.as_ref().map(|place| (place.line, place.column))
    }
}

impl Error for ShaderError {}

impl fmt::Display for ShaderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(Location { line, column, .. }) = &self.place {
            write!(f, "line {line}, column {column}: ")?;
        }
        f.write_str(&self.message)?;
        for note in &self.notes {
            write!(f, "; {note}")?;
        }
        if let Some(Location { column, text, .. }) = &self.place {
            write!(f, "\n    {text}\n    {}^", " ".repeat(column - 1))?;
        }
        Ok(())
    }
}

/// Whether a user may give something this name in WGSL: neither a reserved word nor one of ours.
pub(crate) fn is_name(name: &str) -> bool {
    let word = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') && !name.is_empty();
    let ours = name.starts_with("lp_")
        || library::FUNCTIONS.contains(&name)
        || library::TYPES.contains(&name)
        || ["Theta", "Derived", "N_DIM", "N_DERIVED", "N_TERMS"].contains(&name);
    word && !ours && naga::front::wgsl::parse_str(&format!("const {name}: f32 = 1.0;")).is_ok()
}

/// How a user wrote the likelihood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Signature {
    /// `log_likelihood_term(theta, i)` rather than `log_likelihood(theta)`.
    pub(crate) term: bool,
    /// Parameters come as two values each.
    pub(crate) theta_pair: bool,
    /// log L is the sum of two values.
    pub(crate) value_pair: bool,
    /// Derived values are written, to a variable of this type: to naga an alias is another type than what it stands for.
    pub(crate) derived: Option<&'static str>,
}

/// What a user's module says about its likelihood; `n_params` is the length of theta.
///
/// # Errors
/// No such function, or one that takes or gives something else.
pub(crate) fn reflect(module: &naga::Module, n_params: usize, n_derived: usize) -> Result<Signature, ShaderError> {
    use naga::{AddressSpace, ArraySize, Scalar, TypeInner, VectorSize};
    let named = |name: &str| module.functions.iter().map(|(_, f)| f).find(|f| f.name.as_deref() == Some(name));
    let (function, name, term) = match (named("log_likelihood"), named("log_likelihood_term")) {
        (Some(function), None) => (function, "log_likelihood", false),
        (None, Some(function)) => (function, "log_likelihood_term", true),
        (None, None) => {
            return Err(ShaderError::new(
                "the text has no function log_likelihood; write fn log_likelihood(theta: array<f32, N_DIM>) -> f32",
            ));
        }
        (Some(_), Some(_)) => {
            return Err(ShaderError::new(
                "the text has log_likelihood and log_likelihood_term; keep the one that is meant",
            ));
        }
    };
    let inner = |ty: naga::Handle<naga::Type>| &module.types[ty].inner;
    let floats = |ty: &TypeInner| match *ty {
        TypeInner::Array { base, size: ArraySize::Constant(n), .. }
            if *inner(base) == TypeInner::Scalar(Scalar::F32) =>
        {
            Some(n.get() as usize)
        }
        _ => None,
    };
    let wrong = |what: String| Err(ShaderError::new(format!("fn {name}: {what}")));

    let mut arguments = function.arguments.iter().map(|a| (a.name.as_deref().unwrap_or("_"), inner(a.ty))).peekable();
    let mut n_theta = 0;
    while let Some(n) = arguments.peek().and_then(|(_, ty)| floats(ty)) {
        let (argument, _) = arguments.next().unwrap_or(("theta", &TypeInner::Scalar(Scalar::F32)));
        if n != n_params {
            return wrong(format!(
                "{argument} is array<f32, {n}>, and the prior has {n_params} parameters (fixed and tied ones too); write \
                 array<f32, N_DIM>"
            ));
        }
        n_theta += 1;
    }
    if n_theta == 0 || n_theta > 2 {
        return wrong(format!("it takes {n_theta} arrays; give it theta: array<f32, N_DIM>, or theta_hi and theta_lo"));
    }
    if term && arguments.next().map(|(_, ty)| ty) != Some(&TypeInner::Scalar(Scalar::U32)) {
        return wrong("after theta it takes the number of the term, i: u32".to_owned());
    }
    let derived = match arguments.next() {
        None => None,
        Some((_, TypeInner::Pointer { base, space: AddressSpace::Function }))
            if !term && floats(inner(*base)) == Some(n_derived) =>
        {
            let is_alias = module.types[*base].name.as_deref() == Some("Derived");
            Some(if is_alias { "Derived" } else { "array<f32, N_DERIVED>" })
        }
        Some((argument, _)) => {
            return wrong(format!(
                "argument {argument} is not known; after theta it may take derived: ptr<function, array<f32, N_DERIVED>> for \
                 the {n_derived} derived values{}",
                if term { ", but not in the form with terms" } else { "" }
            ));
        }
    };
    if arguments.next().is_some() {
        return wrong("it takes too many arguments".to_owned());
    }
    if derived.is_some() != (n_derived > 0) {
        return wrong(if derived.is_some() {
            "it takes derived values, and none are named; name them with .derived([..])".to_owned()
        } else {
            format!("{n_derived} derived values are named; take them as derived: ptr<function, array<f32, N_DERIVED>>")
        });
    }
    let value_pair = match function.result.as_ref().map(|result| inner(result.ty)) {
        Some(TypeInner::Scalar(scalar)) if *scalar == Scalar::F32 => false,
        Some(TypeInner::Vector { size: VectorSize::Bi, scalar }) if *scalar == Scalar::F32 => true,
        _ => return wrong("it must return f32, or vec2<f32> for a value in two parts".to_owned()),
    };
    if term && value_pair {
        return wrong("a term is an f32; the library adds the terms as pairs".to_owned());
    }
    Ok(Signature { term, theta_pair: n_theta == 2, value_pair: value_pair || term, derived })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signature(user: &str) -> Result<Signature, ShaderError> {
        let source = Source::default()
            .part("const N_DIM: u32 = 3u; alias Theta = array<f32, N_DIM>; const N_DERIVED: u32 = 1u;")
            .user_part(user);
        let (module, _) = source.check()?;
        reflect(&module, 3, usize::from(user.contains("derived")))
    }

    #[test]
    fn errors_are_told_in_the_users_own_lines() {
        for (text, place) in [
            ("fn log_likelihood(theta: array<f32, N_DIM>) -> f32 {\n    return theta[0] + ;\n}", (2, 23)),
            ("// ü\nfn log_likelihood(theta: Theta) -> f32 {\n  let ü = 1.0; return ü + nothing;\n}", (3, 27)),
            ("fn log_likelihood(theta: Theta) -> f32 {\n    return 1u;\n}", (2, 12)),
        ] {
            let error = signature(text).unwrap_err();
            assert_eq!(error.line_column(), Some(place), "{error}");
            assert!(error.to_string().contains(text.lines().nth(place.0 - 1).unwrap()), "{error}");
        }
    }

    #[test]
    fn forms_are_told_apart() {
        let plain = Signature { term: false, theta_pair: false, value_pair: false, derived: None };
        for (text, expected) in [
            ("fn log_likelihood(theta: array<f32, N_DIM>) -> f32 { return theta[0]; }", plain),
            (
                "fn log_likelihood(t: array<f32, 3>) -> vec2<f32> { return vec2(t[0]); }",
                Signature { value_pair: true, ..plain },
            ),
            (
                "fn log_likelihood(hi: Theta, lo: Theta) -> vec2<f32> { return vec2(hi[0], lo[0]); }",
                Signature { theta_pair: true, value_pair: true, ..plain },
            ),
            (
                "fn log_likelihood(theta: Theta, derived: ptr<function, array<f32, N_DERIVED>>) -> f32 { (*derived)[0] = 1.0; return theta[0]; }",
                Signature { derived: Some("array<f32, N_DERIVED>"), ..plain },
            ),
            (
                "fn log_likelihood_term(theta: Theta, i: u32) -> f32 { return theta[0] * f32(i); }",
                Signature { term: true, value_pair: true, ..plain },
            ),
        ] {
            assert_eq!(signature(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn other_forms_are_refused_with_what_to_write() {
        for (text, word) in [
            ("fn loglike(theta: Theta) -> f32 { return 1.0; }", "no function log_likelihood"),
            ("fn log_likelihood(theta: array<f32, 2>) -> f32 { return 1.0; }", "3 parameters"),
            ("fn log_likelihood(theta: vec3<f32>) -> f32 { return 1.0; }", "array<f32, N_DIM>"),
            ("fn log_likelihood(theta: Theta) -> u32 { return 1u; }", "must return f32"),
            ("fn log_likelihood(theta: Theta, x: f32) -> f32 { return x; }", "argument x"),
            ("fn log_likelihood_term(theta: Theta) -> f32 { return 1.0; }", "i: u32"),
            ("fn log_likelihood(theta: Theta) -> f32 { return f32(f64(theta[0])); }", ""),
        ] {
            let error = signature(text).unwrap_err().to_string();
            assert!(error.contains(word), "{text}: {error}");
        }
    }
}
