//! Components for the tests, written by hand as core modules in text and made components on the spot.

use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};

const PRELUDE: &str = include_str!("../guests/prelude.wat");
const WASI: &str = include_str!("../guests/wasi.wit");

/// A component whose handler is `handle`, the body of a function of `$req` and `$out`; `fields` are more of the
/// module's.
pub(crate) fn component(fields: &str, handle: &str) -> Vec<u8> {
    component_of(PRELUDE, fields, handle)
}

fn component_of(prelude: &str, fields: &str, handle: &str) -> Vec<u8> {
    let text = format!(
        "(module {prelude} {fields}
           (func (export \"wasi:http/incoming-handler@0.2.0#handle\") (param $req i32) (param $out i32)
             (local $stream i32) (local $at i32) (local $count i32) {handle}))"
    );
    let mut module = wat::parse_str(&text).unwrap();
    let mut resolve = wit_parser::Resolve::default();
    let package = resolve.push_str("wasi.wit", WASI).unwrap();
    let world = resolve.select_world(&[package], Some("guest")).unwrap();
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
    ComponentEncoder::default().validate(true).module(&module).unwrap().encode().unwrap()
}

/// Answers with `text`.
pub(crate) fn says(status: u16, text: &str) -> Vec<u8> {
    let data = format!("(data (i32.const 1024) {text:?})");
    component(
        &data,
        &format!(
            "(call $answer (local.get $out) (i32.const {status}) (i32.const 1024) (i32.const {}))",
            text.len()
        ),
    )
}

/// Answers with the headers and the body of the request, piece by piece, and with its path as header `x-path`.
pub(crate) fn echo() -> Vec<u8> {
    component(
        "(data (i32.const 1024) \"x-path\")",
        "(local.set $count (call $clone (call $headers (local.get $req))))
         (call $path (local.get $req) (i32.const 0))
         (call $append (local.get $count) (i32.const 1024) (i32.const 6)
           (i32.load (i32.const 4)) (i32.load (i32.const 8)) (i32.const 16))
         (call $consume (local.get $req) (i32.const 0))
         (local.set $at (call $input))
         (local.set $stream (call $begin (local.get $out) (i32.const 200) (local.get $count)))
         (block $done (loop $more
           (call $read-some (local.get $at) (i64.const 65536) (i32.const 0))
           (br_if $done (i32.load8_u (i32.const 0)))
           (call $write (local.get $stream) (i32.load (i32.const 4)) (i32.load (i32.const 8)))
           (global.set $heap (i32.const 65536))
           (br $more)))
         (call $end (local.get $stream))",
    )
}

/// Never ends.
pub(crate) fn tight_loop() -> Vec<u8> {
    component("", "(loop $forever (br $forever))")
}

/// Takes memory until there is no more, and traps then.
pub(crate) fn hog() -> Vec<u8> {
    component(
        "",
        "(loop $more
           (local.set $at (memory.grow (i32.const 64)))
           (if (i32.eq (local.get $at) (i32.const -1)) (then unreachable))
           (i32.store (i32.mul (local.get $at) (i32.const 65536)) (i32.const 1))
           (br $more))",
    )
}

/// Traps in a function with a name.
pub(crate) fn trap() -> Vec<u8> {
    component("(func $the_culprit unreachable)", "(call $the_culprit)")
}

/// Begins an answer and traps.
pub(crate) fn trap_in_the_middle() -> Vec<u8> {
    component(
        "(data (i32.const 1024) \"half\")",
        "(local.set $stream (call $begin (local.get $out) (i32.const 200) (call $fields)))
         (call $write (local.get $stream) (i32.const 1024) (i32.const 4))
         unreachable",
    )
}

/// Begins an answer and returns without ending it.
pub(crate) fn half_an_answer() -> Vec<u8> {
    component(
        "(data (i32.const 1024) \"half\")",
        "(local.set $stream (call $begin (local.get $out) (i32.const 200) (call $fields)))
         (call $write (local.get $stream) (i32.const 1024) (i32.const 4))
         (call $drop-output (local.get $stream))
         (call $drop-body (i32.load (i32.const 1016)))",
    )
}

/// Does not answer.
pub(crate) fn silent() -> Vec<u8> {
    component("", "")
}

/// Exits.
pub(crate) fn exits() -> Vec<u8> {
    component("", "(call $exit (i32.const 1))")
}

/// Writes to stdout and stderr, and answers with nothing.
pub(crate) fn prints() -> Vec<u8> {
    component(
        "(data (i32.const 1024) \"one\\ntwo\") (data (i32.const 1040) \"trouble\\n\")",
        "(call $print (call $stdout) (i32.const 1024) (i32.const 7))
         (call $print (call $stderr) (i32.const 1040) (i32.const 8))
         (call $answer (local.get $out) (i32.const 204) (i32.const 1024) (i32.const 0))",
    )
}

/// Answers with its environment, a variable a line.
pub(crate) fn environment() -> Vec<u8> {
    component(
        "",
        "(call $environment (i32.const 16))
         (local.set $at (i32.load (i32.const 16)))
         (local.set $count (i32.load (i32.const 20)))
         (local.set $stream (call $begin (local.get $out) (i32.const 200) (call $fields)))
         (call $write-pairs (local.get $stream) (local.get $at) (local.get $count))
         (call $end (local.get $stream))",
    )
}

/// Answers with how many requests this very instance has had, one digit.
pub(crate) fn counts() -> Vec<u8> {
    component(
        "(global $requests (mut i32) (i32.const 48))",
        "(global.set $requests (i32.add (global.get $requests) (i32.const 1)))
         (i32.store8 (i32.const 1024) (global.get $requests))
         (call $answer (local.get $out) (i32.const 200) (i32.const 1024) (i32.const 1))",
    )
}

/// Answers with `pieces` times 4096 bytes, as fast as they are taken.
pub(crate) fn floods(pieces: u32) -> Vec<u8> {
    component(
        "",
        &format!(
            "(memory.fill (i32.const 65536) (i32.const 120) (i32.const 4096))
             (local.set $stream (call $begin (local.get $out) (i32.const 200) (call $fields)))
             (loop $more
               (call $write (local.get $stream) (i32.const 65536) (i32.const 4096))
               (local.set $count (i32.add (local.get $count) (i32.const 1)))
               (br_if $more (i32.lt_u (local.get $count) (i32.const {pieces}))))
             (call $end (local.get $stream))"
        ),
    )
}

/// Sends a request for `/hello` to the authority that the body names, by http (or https, if `is_tls`), and answers
/// with what comes: the body with 200, or the number of the error code, as one byte, with 502.
pub(crate) fn fetches(is_tls: bool) -> Vec<u8> {
    let scheme = u8::from(is_tls);
    component(
        "(data (i32.const 1024) \"/hello\")",
        &format!(
            "(local $request i32)
             (call $consume (local.get $req) (i32.const 0))
             (local.set $at (call $read-all (call $input)))
             (local.set $request (call $request (call $fields)))
             (drop (call $set-scheme (local.get $request) (i32.const 1) (i32.const {scheme}) (i32.const 0) (i32.const 0)))
             (drop (call $set-authority (local.get $request) (i32.const 1) (local.get $at) (i32.load (i32.const 1012))))
             (drop (call $set-path (local.get $request) (i32.const 1) (i32.const 1024) (i32.const 6)))
             (call $send (local.get $request) (i32.const 0) (i32.const 0) (i32.const 0))
             (if (i32.load8_u (i32.const 0)) (then
               (call $answer (local.get $out) (i32.const 502) (i32.const 8) (i32.const 1))
               (return)))
             (local.set $request (i32.load (i32.const 8)))
             (call $block (call $subscribe (local.get $request)))
             (call $get (local.get $request) (i32.const 0))
             (if (i32.load8_u (i32.const 16)) (then
               (call $answer (local.get $out) (i32.const 502) (i32.const 24) (i32.const 1))
               (return)))
             (call $consume-response (i32.load (i32.const 24)) (i32.const 0))
             (local.set $at (call $read-all (call $input)))
             (call $answer (local.get $out) (i32.const 200) (local.get $at) (i32.load (i32.const 1012)))"
        ),
    )
}

/// Answers with the headers of the request, one a line.
pub(crate) fn shows_headers() -> Vec<u8> {
    component(
        "",
        "(call $entries (call $headers (local.get $req)) (i32.const 16))
         (local.set $at (i32.load (i32.const 16)))
         (local.set $count (i32.load (i32.const 20)))
         (local.set $stream (call $begin (local.get $out) (i32.const 200) (call $fields)))
         (call $write-pairs (local.get $stream) (local.get $at) (local.get $count))
         (call $end (local.get $stream))",
    )
}

/// Has so many pages of memory from the beginning.
pub(crate) fn begins_with(pages: u32) -> Vec<u8> {
    let text =
        PRELUDE.replace("(memory (export \"memory\") 2)", &format!("(memory (export \"memory\") {pages})"));
    component_of(&text, "", "")
}
