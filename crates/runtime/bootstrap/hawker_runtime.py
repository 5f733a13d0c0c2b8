"""Loads a Python function and runs it on what the Lambda Runtime API hands out.

Behaves as AWS's runtime interface client for Python. Imports only what is part of the interpreter, since every
import is paid by every cold start: `json` alone, by way of `re`, would be half of one, and `os` a tenth.
`logging` is set up when the function first imports it.
"""

import posix
import sys
from time import time

import _socket

_API = "/2018-06-01/runtime/"
_NBSP = "\u00a0"
_request_id = ""


def _env(name, default=None):
    """As `os.environ.get`: what `os.environ` shows and changes is this very dictionary."""
    value = posix.environ.get(name.encode("ascii"))
    return default if value is None else value.decode("utf-8", "surrogateescape")


def _set_env(name, value):
    key, value = name.encode("ascii"), value.encode("utf-8", "surrogateescape")
    posix.environ[key] = value
    posix.putenv(key, value)


def _unset_env(name):
    key = name.encode("ascii")
    if posix.environ.pop(key, None) is not None:
        posix.unsetenv(key)


class _Fault(Exception):
    def __init__(self, kind, message, trace=None):
        Exception.__init__(self, message)
        self.kind = kind
        self.message = message
        self.trace = trace


class _Client:
    """HTTP/1.1 over one kept connection: the server is ours, and always says how long its answers are."""

    def __init__(self, address):
        self._address = address
        host, _, port = address.rpartition(":")
        self._socket = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
        self._socket.connect((host, int(port)))
        self._socket.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
        self._next = self._head("GET", "invocation/next") + b"\r\n"
        self._rest = b""

    def _head(self, method, path):
        return ("%s %s%s HTTP/1.1\r\nHost: %s\r\n" % (method, _API, path, self._address)).encode("ascii")

    def _read(self):
        data = self._rest
        while True:
            end = data.find(b"\r\n\r\n")
            if end >= 0:
                break
            more = self._socket.recv(65536)
            if not more:
                raise ConnectionError("the Runtime API closed the connection")
            data += more
        lines = data[:end].decode("utf-8", "replace").split("\r\n")
        headers = {}
        for line in lines[1:]:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        length = int(headers.get("content-length", "0"))
        body = data[end + 4 : end + 4 + length]
        self._rest = data[end + 4 + length :]
        if len(body) < length:
            parts = [body]
            missing = length - len(body)
            while missing:
                more = self._socket.recv(min(missing, 1 << 20))
                if not more:
                    raise ConnectionError("the Runtime API closed the connection")
                parts.append(more)
                missing -= len(more)
            body = b"".join(parts)
        return int(lines[0].split(" ", 2)[1]), headers, body

    def next(self):
        self._socket.sendall(self._next)
        return self._event()

    def _event(self):
        status, headers, body = self._read()
        if status != 200:
            raise RuntimeError("the Runtime API answered %d: %s" % (status, body))
        return headers, body

    def _send(self, path, body, headers, then):
        head = self._head("POST", path)
        head += ("Content-Type: application/json\r\nContent-Length: %d\r\n%s\r\n" % (len(body), headers)).encode(
            "ascii", "replace"
        )
        if len(body) < 65536:
            self._socket.sendall(head + body + then)
        else:
            self._socket.sendall(head)
            self._socket.sendall(body)
            if then:
                self._socket.sendall(then)

    def post(self, path, body, headers=""):
        self._send(path, body, headers, b"")
        return self._read()

    def post_and_next(self, path, body, headers=""):
        """Asks for the next event in the same breath: what is said to the answer changes nothing."""
        self._send(path, body, headers, self._next)
        self._read()
        return self._event()


class CognitoIdentity:
    __slots__ = ["cognito_identity_id", "cognito_identity_pool_id"]

    def __init__(self):
        self.cognito_identity_id = None
        self.cognito_identity_pool_id = None


class _Record:
    def __init__(self, fields, values):
        for field in fields:
            setattr(self, field, values.get(field))


class Client(_Record):
    pass


class ClientContext(_Record):
    pass


class LambdaContext:
    def __init__(self, headers):
        self.aws_request_id = headers.get("lambda-runtime-aws-request-id")
        self.log_group_name = _env("AWS_LAMBDA_LOG_GROUP_NAME")
        self.log_stream_name = _env("AWS_LAMBDA_LOG_STREAM_NAME")
        self.function_name = _env("AWS_LAMBDA_FUNCTION_NAME")
        self.memory_limit_in_mb = _env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE")
        self.function_version = _env("AWS_LAMBDA_FUNCTION_VERSION")
        self.invoked_function_arn = headers.get("lambda-runtime-invoked-function-arn")
        self.tenant_id = None
        self.identity = CognitoIdentity()
        self.client_context = None
        context = headers.get("lambda-runtime-client-context")
        if context:
            try:
                values = _loads(context.encode("utf-8"))
                self.client_context = ClientContext(("custom", "env", "client"), values)
                if self.client_context.client is not None:
                    fields = "installation_id app_title app_version_name app_version_code app_package_name"
                    self.client_context.client = Client(fields.split(), self.client_context.client)
            except Exception as error:
                raise _Fault(
                    "Runtime.LambdaContextUnmarshalError", "Unable to parse Client Context JSON: %s" % error
                )
        self._deadline = int(headers.get("lambda-runtime-deadline-ms", "0"))

    def get_remaining_time_in_millis(self):
        return max(self._deadline - int(time() * 1000), 0)

    def log(self, message):
        sys.stdout.write(str(message))

    def __repr__(self):
        fields = (
            "aws_request_id log_group_name log_stream_name function_name memory_limit_in_mb function_version "
            "invoked_function_arn client_context identity tenant_id"
        )
        return "LambdaContext([%s])" % ",".join(
            "%s=%s" % (field, getattr(self, field)) for field in fields.split()
        )


# JSON by the C parts of `json`, which is what `json` itself uses; whatever they do not take goes through it.
class _Scan:
    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_constant = {"-Infinity": -float("inf"), "Infinity": float("inf"), "NaN": float("nan")}.__getitem__


try:
    import _json

    _scan = _json.make_scanner(_Scan)
    _json_encoder = _json.make_encoder
except Exception:
    _json = None


def _loads(body):
    """As `json.loads`."""
    if _json is not None:
        try:
            text = body.decode("utf-8", "surrogatepass").strip(" \t\n\r")
            value, end = _scan(text, 0)
            if end == len(text):
                return value
        except (StopIteration, ValueError):
            pass
    # For its words on what is wrong, and for other encodings.
    import json

    return json.loads(body)


# As awslambdaric writes it: Decimal as a number with all its digits, and since 3.12 no ASCII escapes.
_ENSURE_ASCII = sys.version_info < (3, 12)
_DECIMAL = "hawker-decimal-%s-" % posix.urandom(12).hex()


def _encode(value, default):
    """As `json.dumps`."""
    if _json is None:
        import json

        return json.dumps(value, ensure_ascii=_ENSURE_ASCII, default=default)
    string = _json.encode_basestring_ascii if _ENSURE_ASCII else _json.encode_basestring
    if isinstance(value, str):
        return string(value)
    return "".join(_json_encoder({}, default, string, None, ": ", ", ", False, False, True)(value, 0))


def _dumps(value):
    decimals = []

    def default(found):
        module = sys.modules.get("decimal")
        if module is not None and isinstance(found, module.Decimal):
            if found.is_nan():
                return float("nan")
            decimals.append(str(found))
            return "%s%d" % (_DECIMAL, len(decimals) - 1)
        raise TypeError("Object of type %s is not JSON serializable" % type(found).__name__)

    text = _encode(value, default)
    for number, digits in enumerate(decimals):
        text = text.replace('"%s%d"' % (_DECIMAL, number), digits, 1)
    return text.encode("utf-8")


class _Handler:
    """Finds the import of `logging`, and gives its root logger the handler that Lambda gives it."""

    def find_spec(self, name, path=None, target=None):
        if name != "logging":
            return None
        sys.meta_path.remove(self)
        from _frozen_importlib_external import PathFinder

        spec = PathFinder.find_spec(name)
        if spec is None or spec.loader is None:
            return None
        load = spec.loader.exec_module

        def exec_module(module):
            load(module)
            _set_up_logging(module)

        spec.loader.exec_module = exec_module
        return spec


def _set_up_logging(logging):
    import json
    from time import gmtime

    class LambdaLoggerHandler(logging.Handler):
        def emit(self, record):
            record.aws_request_id = _request_id
            try:
                # A carriage return keeps the lines of one record together.
                sys.stdout.write(self.format(record).replace("\n", "\r") + "\n")
            except Exception:
                self.handleError(record)

    as_json = _env("AWS_LAMBDA_LOG_FORMAT", "").upper() == "JSON"
    logging.Formatter.converter = gmtime
    handler = LambdaLoggerHandler()
    if as_json:

        # What every record has; the rest is what was given as `extra`.
        common = set(logging.makeLogRecord({}).__dict__) | {"aws_request_id", "asctime", "message", "taskName"}

        class JsonFormatter(logging.Formatter):
            def format(self, record):
                line = {
                    "timestamp": self.formatTime(record, "%Y-%m-%dT%H:%M:%SZ"),
                    "level": record.levelname,
                    "message": record.getMessage(),
                    "logger": record.name,
                }
                if record.exc_info and record.exc_info[0] is not None:
                    import traceback

                    line["stackTrace"] = traceback.format_tb(record.exc_info[2])
                    line["errorType"] = record.exc_info[0].__name__
                    line["errorMessage"] = str(record.exc_info[1])
                    line["location"] = "%s:%s:%d" % (record.pathname, record.funcName, record.lineno)
                if record.aws_request_id:
                    line["requestId"] = record.aws_request_id
                line.update((key, value) for key, value in record.__dict__.items() if key not in common)
                return json.dumps(line, ensure_ascii=False, default=str)

        handler.setFormatter(JsonFormatter())
    else:
        handler.setFormatter(
            logging.Formatter(
                "[%(levelname)s]\t%(asctime)s.%(msecs)03dZ\t%(aws_request_id)s\t%(message)s", "%Y-%m-%dT%H:%M:%S"
            )
        )
    root = logging.getLogger()
    level = _env("AWS_LAMBDA_LOG_LEVEL", "").upper()
    if level:
        root.setLevel({"TRACE": "DEBUG", "WARN": "WARNING", "FATAL": "CRITICAL"}.get(level, level))
    root.addHandler(handler)


def _load(handler):
    module, dot, function = handler.rpartition(".")
    if not dot:
        raise _Fault(
            "Runtime.MalformedHandlerName",
            "Bad handler '%s': not enough values to unpack (expected 2, got 1)" % handler,
        )
    if module.split(".")[0] in sys.builtin_module_names:
        raise _Fault(
            "Runtime.BuiltInModuleConflict", "Cannot use built-in module %s as a handler module" % module
        )
    # Packages are read-only: compiled modules could not be written, and trying costs each import.
    writes = sys.dont_write_bytecode
    sys.dont_write_bytecode = True
    try:
        # What `importlib.import_module` is.
        from _frozen_importlib import _gcd_import

        name = module.replace("/", ".")
        if name.startswith("."):
            raise TypeError("the 'package' argument is required to perform a relative import for %r" % name)
        loaded = _gcd_import(name)
    except ImportError as error:
        raise _Fault("Runtime.ImportModuleError", "Unable to import module '%s': %s" % (module, error))
    except SyntaxError as error:
        raise _Fault(
            "Runtime.UserCodeSyntaxError",
            "Syntax error in module '%s': %s" % (module, error),
            ['  File "%s" Line %s\n    %s' % (error.filename, error.lineno, error.text)],
        )
    finally:
        sys.dont_write_bytecode = writes
    try:
        return getattr(loaded, function)
    except AttributeError:
        raise _Fault("Runtime.HandlerNotFound", "Handler '%s' missing on module '%s'" % (function, module))


def _error(error):
    """The error object of an exception, without the frames of this file and of the import system."""
    if isinstance(error, _Fault):
        kind, message, trace = error.kind, error.message, error.trace or []
    else:
        import traceback

        frames = traceback.extract_tb(error.__traceback__)
        ours = 0
        for ours, frame in enumerate(frames):
            if frame.filename != __file__ and not frame.filename.startswith("<frozen "):
                if not frame.filename.endswith("importlib/__init__.py"):
                    break
        kind, message, trace = type(error).__name__, str(error), []
        places = [(frame.filename, frame.lineno, frame.name, frame.line) for frame in frames[ours:]]
        trace = traceback.format_list(places)
    return {"errorMessage": message, "errorType": kind, "requestId": _request_id, "stackTrace": trace}


def _log_error(error):
    if _env("AWS_LAMBDA_LOG_FORMAT", "").upper() == "JSON":
        from time import gmtime, strftime

        line = {"timestamp": strftime("%Y-%m-%dT%H:%M:%SZ", gmtime()), "level": "ERROR"}
        line.update(error)
        sys.stdout.write(_dumps(line).decode("utf-8") + "\n")
        return
    lines = ["[ERROR] %s: %s" % (error["errorType"], error["errorMessage"]), "Traceback (most recent call last):"]
    for element in error["stackTrace"]:
        for line in element.splitlines():
            text = line.lstrip(" ")
            lines.append(_NBSP * (len(line) - len(text)) + text)
    sys.stdout.write("\r".join(line.replace("\n", "\r") for line in lines) + "\n")


def _flush():
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:
            pass


def _error_type(error):
    kind = error["errorType"]
    return "Lambda-Runtime-Function-Error-Type: %s\r\n" % kind.replace("\r", " ").replace("\n", " ")


def _prepare():
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True)
    # No `site` ran: its names for interactive use are in functions' code too.
    import builtins

    import _sitebuiltins

    for name in ("exit", "quit"):
        setattr(builtins, name, _sitebuiltins.Quitter(name, "Ctrl-D (i.e. EOF)"))


def _stand_ready(word):
    """Waits for a function and takes its environment over. Until then nothing of any function is here.

    Only what the interpreter boots with and this file imports is loaded meanwhile: what else there is, a function may
    bring itself.
    """
    line = int(word.partition(":")[0])
    client = _Client(_env("AWS_LAMBDA_RUNTIME_API"))
    # Where the kernel shows the environment, that of the function will be written: nothing may point there any more.
    locale = posix.environ.get(b"LC_CTYPE")
    for key in list(posix.environ):
        posix.unsetenv(key)
    posix.environ.clear()
    posix.write(line, b"r")
    parts = []
    while True:
        part = posix.read(line, 65536)
        if not part:
            break
        parts.append(part)
    posix.close(line)
    for entry in b"".join(parts).split(b"\0")[:-1]:
        key, _, value = entry.partition(b"=")
        posix.environ[key] = value
        posix.putenv(key, value)
    if locale is not None:
        # The interpreter has set it, since the host lacks the locale that it was to have (PEP 538).
        posix.environ[b"LC_CTYPE"] = locale
        posix.putenv(b"LC_CTYPE", locale)
    posix.chdir(_env("LAMBDA_TASK_ROOT"))
    return client


def _set_up():
    runtime = _env("LAMBDA_RUNTIME_DIR")
    version = "python%d.%d" % sys.version_info[:2]
    standard = [path for path in sys.path if path != runtime and path]
    layers = _env("HAWKER_OPT", "/opt") + "/python"
    first = [_env("LAMBDA_TASK_ROOT"), "%s/lib/%s/site-packages" % (layers, version), layers]
    site = _env("HAWKER_SITE_PACKAGES")
    for name in ("HAWKER_SITE_PACKAGES", "HAWKER_OPT"):
        _unset_env(name)
    sys.path[:] = first + standard + ([site] if site else [])
    sys.argv[:] = ["bootstrap.py"]
    sys.meta_path.insert(0, _Handler())


def _run(client, handler):
    global _request_id
    headers, body = client.next()
    while True:
        _request_id = headers.get("lambda-runtime-aws-request-id", "")
        trace = headers.get("lambda-runtime-trace-id")
        if trace:
            _set_env("_X_AMZN_TRACE_ID", trace)
        else:
            _unset_env("_X_AMZN_TRACE_ID")
        try:
            context = LambdaContext(headers)
            try:
                event = _loads(body)
            except Exception as error:
                raise _Fault("Runtime.UnmarshalError", "Unable to unmarshal input: %s" % error)
            result = handler(event, context)
            if not isinstance(result, bytes):
                try:
                    result = _dumps(result)
                except Exception as error:
                    raise _Fault("Runtime.MarshalError", "Unable to marshal response: %s" % error)
            error = None
        except Exception as exception:
            error = _error(exception)
            _log_error(error)
        _flush()
        if error is None:
            answer = ("response", result, "")
        else:
            answer = ("error", _dumps(error), _error_type(error))
        # Nothing of one event is kept alive until the next.
        event = result = error = context = body = None
        headers, body = client.post_and_next("invocation/%s/%s" % (_request_id, answer[0]), answer[1], answer[2])
        answer = None


def main():
    _prepare()
    ready = _env("HAWKER_READY")
    client = None if ready is None else _stand_ready(ready)
    _set_up()
    if client is None:
        client = _Client(_env("AWS_LAMBDA_RUNTIME_API"))
    try:
        handler = _load(_env("_HANDLER"))
    except Exception as exception:
        error = _error(exception)
        _log_error(error)
        _flush()
        client.post("init/error", _dumps(error), _error_type(error))
        sys.exit(1)
    _flush()
    _run(client, handler)
