//! What is wrong with a plan, where, and what to do.

use std::fmt;

/// A place in the plan file. Lines and columns count from 1, columns in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Place {
    /// Line; 0 where the problem has no place (an empty file, say).
    pub line: usize,
    /// Column.
    pub column: usize,
    /// How many characters are meant, at least 1.
    pub length: usize,
}

/// One problem of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where.
    pub place: Place,
    /// What, in lower case, with the offending text.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

/// Every problem of a plan; never empty. `Display` shows each with its line of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems {
    /// Name of the file.
    pub name: String,
    /// The problems, in the order of the file.
    pub problems: Vec<Problem>,
    /// The lines that they point to, by the order of the problems.
    lines: Vec<String>,
}

/// Longest part of a line that is shown; a plan may be one line of a megabyte.
const SHOWN_CHARACTERS: usize = 160;

impl Problems {
    /// Problems of this text.
    pub(crate) fn new(name: &str, text: &str, mut problems: Vec<Problem>) -> Self {
        problems.sort_by_key(|problem| problem.place);
        problems.dedup();
        let line = |problem: &Problem| {
            let line = text.lines().nth(problem.place.line.checked_sub(1)?)?;
            Some(line.chars().take(SHOWN_CHARACTERS).collect())
        };
        let lines = problems.iter().map(|problem| line(problem).unwrap_or_default()).collect();
        Problems { name: name.to_owned(), problems, lines }
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (problem, line)) in self.problems.iter().zip(&self.lines).enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            let Place { line: number, column, length } = problem.place;
            if number == 0 {
                writeln!(f, "{}: {}", self.name, problem.message)?;
            } else {
                writeln!(f, "{}:{number}:{column}: {}", self.name, problem.message)?;
            }
            if !line.is_empty() {
                let gutter = number.to_string();
                let room = line.chars().count().saturating_sub(column.saturating_sub(1)).max(1);
                // Tabs stay tabs, so that the mark stands below what it means.
                let indent: String = line
                    .chars()
                    .take(column.saturating_sub(1))
                    .map(|character| if character == '\t' { '\t' } else { ' ' })
                    .collect();
                writeln!(f, "  {gutter} | {line}")?;
                if column <= SHOWN_CHARACTERS {
                    let mark = "^".repeat(length.clamp(1, room));
                    writeln!(f, "  {} | {indent}{mark}", " ".repeat(gutter.len()))?;
                }
            }
            if let Some(hint) = &problem.hint {
                writeln!(f, "  hint: {hint}")?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}
