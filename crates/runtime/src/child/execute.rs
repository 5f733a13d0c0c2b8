//! How a process becomes one of a sandbox's programs.

use std::io::Read;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};

use super::{Lines, standing, sys};
use crate::spec::{self, Program, Report, Spec};

/// What extensions do not have of the function's environment (AWS Lambda developer guide, "Environment variables" of
/// extensions).
const NOT_FOR_EXTENSIONS: [&str; 8] = [
    "AWS_EXECUTION_ENV",
    "AWS_LAMBDA_LOG_GROUP_NAME",
    "AWS_LAMBDA_LOG_STREAM_NAME",
    "AWS_XRAY_CONTEXT_MISSING",
    "AWS_XRAY_DAEMON_ADDRESS",
    "LAMBDA_RUNTIME_DIR",
    "LAMBDA_TASK_ROOT",
    "_HANDLER",
];

/// Becomes the program; returns only if that fails (or if there is nothing to execute).
/// What stands ready says so over `line`.
pub(super) fn execute(lines: &Lines, spec: &Spec, program: Program, line: Option<BorrowedFd<'_>>) -> i32 {
    match program {
        Program::Function => function(&lines.control, spec, line),
        Program::Extension(place) => extension(lines, spec, place),
    }
}

fn function(control: &OwnedFd, spec: &Spec, line: Option<BorrowedFd<'_>>) -> i32 {
    let [name, arguments @ ..] = &spec.argv[..] else { return 0 };
    if spec.wrapped
        && let Some(code) = refuse_wrapper(Path::new(name))
    {
        return code;
    }
    let ready = match line.map(standing::variable).transpose() {
        Ok(ready) => ready,
        Err(error) => return fail(control, Program::Function, format!("standing ready: {error}")),
    };
    let failure = match rustix::process::chdir(spec.directory.as_str()) {
        Ok(()) => become_program(name, arguments, spec.environment.iter().chain(&ready)),
        Err(error) => error.into(),
    };
    fail(control, Program::Function, format!("fork/exec {name}: {}", reason(&failure)))
}

fn extension(lines: &Lines, spec: &Spec, place: usize) -> i32 {
    let program = Program::Extension(place);
    let Some(name) = spec.extensions.get(place) else { return 0 };
    let failure = match rustix::stdio::dup2_stdout(&lines.extension_logs)
        .and_then(|()| rustix::stdio::dup2_stderr(&lines.extension_logs))
    {
        Ok(()) => {
            let environment = spec.environment.iter();
            let environment = environment.filter(|(name, _)| !NOT_FOR_EXTENSIONS.contains(&name.as_str()));
            become_program(name, &[], environment)
        }
        Err(error) => error.into(),
    };
    fail(&lines.control, program, format!("fork/exec {name}: {}", reason(&failure)))
}

/// Executes a program: found by PATH, as a shell finds it, if its name has no slash.
fn become_program<'a>(
    name: &str,
    arguments: &[String],
    environment: impl Iterator<Item = &'a (String, String)> + Clone,
) -> std::io::Error {
    let path = match find(name, environment.clone()) {
        Ok(path) => path,
        Err(error) => return error,
    };
    if let Err(error) = check_format(&path) {
        return error;
    }
    sys::unblock_signals();
    let mut command = std::process::Command::new(path);
    command.arg0(name).args(arguments).env_clear().envs(environment.map(|(name, value)| (name, value)));
    command.exec()
}

fn find<'a>(
    name: &str,
    mut environment: impl Iterator<Item = &'a (String, String)>,
) -> std::io::Result<PathBuf> {
    if name.contains('/') {
        return Ok(name.into());
    }
    let path = environment.find(|(name, _)| name == "PATH").map_or("", |(_, path)| path.as_str());
    let mut places = path.split(':').map(|directory| Path::new(directory).join(name));
    places
        .find(|place| {
            place.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
        })
        .ok_or_else(|| std::io::ErrorKind::NotFound.into())
}

fn reason(failure: &std::io::Error) -> String {
    match failure.kind() {
        std::io::ErrorKind::NotFound => "no such file or directory".to_owned(),
        std::io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ if failure.raw_os_error() == Some(libc::ENOEXEC) => "exec format error".to_owned(),
        _ => failure.to_string(),
    }
}

fn fail(control: &OwnedFd, program: Program, message: String) -> i32 {
    let _ = spec::send(control, &Report::Failed { message, program: Some(program) }, &[]);
    126
}

/// As the runtimes' own start scripts refuse what `AWS_LAMBDA_EXEC_WRAPPER` names.
fn refuse_wrapper(path: &Path) -> Option<i32> {
    match path.metadata() {
        Ok(found) if found.is_file() && found.permissions().mode() & 0o111 != 0 => None,
        Ok(found) if found.is_file() => {
            println!("{}: is not an executable", path.display());
            Some(126)
        }
        _ => {
            println!("{}: does not exist", path.display());
            Some(127)
        }
    }
}

/// The C library would hand a file of no known format to a shell; Lambda refuses it.
fn check_format(program: &Path) -> std::io::Result<()> {
    let mut start = [0; 4];
    let read = std::fs::File::open(program)?.read(&mut start)?;
    if start[..read].starts_with(b"#!") || start[..read] == *b"\x7fELF" {
        Ok(())
    } else {
        Err(std::io::Error::from_raw_os_error(libc::ENOEXEC))
    }
}
