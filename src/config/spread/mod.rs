//! A `spread.conf`, read as it is: `lexer.rs` and `parser.rs` know its form, `keyword.rs` its
//! words, `effect.rs` what they come to here. What has no effect is noted, with the reason.

mod effect;
mod keyword;
mod lexer;
mod parser;
#[cfg(test)]
mod tests;

use std::path::Path;

use super::Config;
use super::error::{ConfigError, Problem, Problems};
use super::host::{Host, Who};
use super::members;

use effect::Effects;
use parser::Mistake;

/// Whether a file is one of Spread's: by its name where that ends in `.conf` or `.toml`, otherwise
/// where a line begins with `Spread_Segment`.
pub(super) fn is_spread(path: &Path, text: &str) -> bool {
    match path.extension().and_then(|ending| ending.to_str()) {
        Some("conf") => true,
        Some("toml") => false,
        _ => text.lines().any(|line| line.trim_start().starts_with(keyword::SEGMENT)),
    }
}

/// Reads a text as the content of `path`.
pub(super) fn read(
    text: &str,
    path: &Path,
    host: &dyn Host,
    who: Who,
) -> Result<Config, ConfigError> {
    let (statements, mistakes) = parser::parse(text);
    let mut effects = Effects::new(host);
    effects.mistakes = mistakes;
    statements.iter().for_each(|statement| effects.take(statement));
    effects.finish(path, who);
    let Effects { mut config, mistakes, notes, .. } = effects;
    let problems = |mistakes: Vec<Mistake>| {
        let mut problems: Vec<_> = mistakes.into_iter().map(|it| problem(it, path, text)).collect();
        problems.sort_by_key(|problem: &Problem| (problem.line, problem.column));
        problems
    };
    if !mistakes.is_empty() {
        return Err(ConfigError::Invalid(Problems(problems(mistakes))));
    }
    config.notes = problems(notes);
    config.cluster.datagram_bytes = members::ethernet_bytes(&config.cluster);
    Ok(config)
}

fn problem(mistake: Mistake, path: &Path, text: &str) -> Problem {
    let Mistake { span, message, help } = mistake;
    Problem { help, ..Problem::new(path, text, span, message) }
}
