//! The template on disk: finding it, showing what is wrong with it, and writing where its code went.

use std::path::{Path, PathBuf};

use anyhow::Context;
use stacks::template::{LocalCode, Problem};

use crate::failure::Failure;
use crate::ui::{Colour, paint_err as paint};

/// A template on disk.
#[derive(Debug)]
pub(crate) struct TemplateFile {
    pub(crate) path: PathBuf,
    pub(crate) directory: PathBuf,
    pub(crate) text: String,
}

impl TemplateFile {
    /// The template at `source`, a file or a directory.
    pub(crate) fn find(source: &Path) -> anyhow::Result<Self> {
        let path = if source.is_dir() {
            let names = ["template.yaml", "template.yml", "template.json"];
            let found = names.iter().map(|name| source.join(name)).find(|path| path.is_file());
            found.ok_or_else(|| {
                Failure::new(format!("there is no template in `{}`", source.display()))
                    .why(format!("none of {} is there", names.join(", ")))
                    .next("name the template or its directory: hawker deploy path/to/app")
            })?
        } else {
            source.to_owned()
        };
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("the template `{}` can not be read", path.display()))?;
        let directory =
            path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned();
        Ok(Self { path, directory, text })
    }

    /// The stack's name if nobody gives one: that of the directory, as far as a name can hold it.
    pub(crate) fn stack_name(&self) -> anyhow::Result<String> {
        let directory = self.directory.canonicalize()?;
        let name = directory.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let name: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        let name = name.trim_matches(|c: char| !c.is_ascii_alphabetic()).to_owned();
        if name.is_empty() {
            let failure = Failure::new("the directory's name is not a name for a stack");
            return Err(failure.next("give one with --stack-name").into());
        }
        Ok(name)
    }

    /// Shows problems, each with its line.
    pub(crate) fn show(&self, problems: &[Problem]) {
        let lines: Vec<&str> = self.text.lines().collect();
        for problem in problems {
            let (line, column) = (problem.at.line, problem.at.column);
            eprintln!("{} {}", paint(Colour::Red, "error:"), paint(Colour::Bold, &problem.message));
            let Some(text) = line.checked_sub(1).and_then(|index| lines.get(index)) else {
                continue;
            };
            let number = line.to_string();
            let margin = " ".repeat(number.len());
            let bar = paint(Colour::Blue, "|");
            eprintln!("{margin}{} {}:{line}:{column}", paint(Colour::Blue, "-->"), self.path.display());
            eprintln!("{margin} {bar}");
            eprintln!("{} {bar} {text}", paint(Colour::Blue, &number));
            let indent = " ".repeat(column.saturating_sub(1));
            let length = text.trim_end().chars().count().saturating_sub(column - 1).max(1);
            eprintln!("{margin} {bar} {indent}{}", paint(Colour::Red, &"^".repeat(length)));
            eprintln!();
        }
    }

    /// The text with each code's path replaced by where it is in S3.
    pub(crate) fn with_code(&self, places: &[(LocalCode, String, String)]) -> String {
        let mut places: Vec<_> = places.iter().collect();
        places.sort_by_key(|(code, _, _)| code.span.0);
        let characters: Vec<char> = self.text.chars().collect();
        let mut out = String::with_capacity(self.text.len() + 200);
        let mut at = 0;
        for (code, bucket, key) in places {
            out.extend(&characters[at..code.span.0]);
            if code.as_mapping {
                out.push_str(&format!("{{\"S3Bucket\": \"{bucket}\", \"S3Key\": \"{key}\"}}"));
            } else {
                out.push_str(&format!("\"s3://{bucket}/{key}\""));
            }
            at = code.span.1;
        }
        out.extend(&characters[at..]);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_is_written_where_its_path_stood() {
        let text = "Resources:\n  Å:\n    Type: AWS::Serverless::Function\n    Properties:\n      CodeUri: 'src/' # here\n      \
                    Runtime: python3.12\n  L: {Type: AWS::Lambda::Function, Properties: {Code: lib, Handler: a.b}}\n";
        let file = TemplateFile { path: "t.yaml".into(), directory: ".".into(), text: text.to_owned() };
        let places: Vec<_> = stacks::template::local_code(text)
            .into_iter()
            .map(|code| (code.clone(), "b".to_owned(), format!("k-{}", code.path)))
            .collect();
        let done = file.with_code(&places);
        assert!(done.contains("CodeUri: \"s3://b/k-src/\" # here\n"), "{done}");
        assert!(done.contains("Code: {\"S3Bucket\": \"b\", \"S3Key\": \"k-lib\"}, Handler"), "{done}");
        assert_eq!(done.lines().count(), text.lines().count());
        assert!(stacks::template::local_code(&done).is_empty());
    }
}
