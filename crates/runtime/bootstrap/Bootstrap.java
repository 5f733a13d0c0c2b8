// Loads a Java function and runs it on what the Lambda Runtime API hands out.
// Takes what AWS's runtime interface client takes: classes that implement RequestHandler or RequestStreamHandler (from
// the function's own package: nothing here is compiled against them), and plain methods. Packages that bring AWS's
// client run on that instead.
package hawker;

import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.EOFException;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.io.PrintStream;
import java.lang.reflect.Array;
import java.lang.reflect.Constructor;
import java.lang.reflect.Field;
import java.lang.reflect.InvocationHandler;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.lang.reflect.Modifier;
import java.lang.reflect.ParameterizedType;
import java.lang.reflect.Proxy;
import java.lang.reflect.Type;
import java.lang.reflect.WildcardType;
import java.math.BigDecimal;
import java.math.BigInteger;
import java.net.Socket;
import java.nio.charset.StandardCharsets;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Optional;
import java.util.Set;

public final class Bootstrap {
    private static final String API = "/2018-06-01/runtime/";
    private static final String PACKAGE = "com.amazonaws.services.lambda.runtime.";
    private static final boolean JSON_LOGS = "JSON".equals(System.getenv("AWS_LAMBDA_LOG_FORMAT"));

    private static String requestId;

    public static void main(String[] arguments) throws IOException {
        System.setOut(new PrintStream(new java.io.FileOutputStream(java.io.FileDescriptor.out), true, StandardCharsets.UTF_8));
        System.setErr(new PrintStream(new java.io.FileOutputStream(java.io.FileDescriptor.err), true, StandardCharsets.UTF_8));
        Client client = new Client(System.getenv("AWS_LAMBDA_RUNTIME_API"));
        Handler handler;
        try {
            handler = Handler.load(System.getenv("_HANDLER"));
        } catch (Throwable error) {
            fail(client, "init/error", error);
            System.exit(1);
            return;
        }
        while (true) {
            Answer event = client.call("GET", "invocation/next", null, null);
            if (event.status != 200) {
                throw new IOException("the Runtime API answered " + event.status);
            }
            requestId = event.headers.get("lambda-runtime-aws-request-id");
            String trace = event.headers.get("lambda-runtime-trace-id");
            if (trace != null) {
                System.setProperty("com.amazonaws.xray.traceHeader", trace);
            }
            byte[] answer;
            try {
                answer = handler.handle(event.body, new Facts(event.headers));
            } catch (Throwable error) {
                fail(client, "invocation/" + requestId + "/error", error);
                if (error instanceof VirtualMachineError) {
                    System.exit(1);
                }
                continue;
            }
            System.out.flush();
            client.call("POST", "invocation/" + requestId + "/response", answer, null);
        }
    }

    private static void fail(Client client, String path, Throwable thrown) throws IOException {
        Throwable error = thrown;
        while (error instanceof InvocationTargetException && error.getCause() != null) {
            error = error.getCause();
        }
        Map<String, Object> object = describe(error);
        if (JSON_LOGS) {
            Map<String, Object> line = new LinkedHashMap<>();
            line.put("timestamp", Instant.now().toString());
            line.put("level", "ERROR");
            line.put("AWSRequestId", requestId);
            line.putAll(object);
            System.out.println(Json.write(line));
        } else {
            java.io.StringWriter text = new java.io.StringWriter();
            error.printStackTrace(new java.io.PrintWriter(text, true));
            // A carriage return keeps the lines of one record together.
            System.out.println(text.toString().stripTrailing().replace('\n', '\r'));
        }
        client.call("POST", path, Json.write(object).getBytes(StandardCharsets.UTF_8), error instanceof Fault ? ((Fault) error).kind : error.getClass().getName());
    }

    private static Map<String, Object> describe(Throwable error) {
        Map<String, Object> object = new LinkedHashMap<>();
        object.put("errorMessage", error.getMessage());
        object.put("errorType", error instanceof Fault ? ((Fault) error).kind : error.getClass().getName());
        List<String> trace = new ArrayList<>();
        for (StackTraceElement frame : error.getStackTrace()) {
            if (frame.getClassName().startsWith("hawker.")) {
                break;
            }
            trace.add(frame.toString());
        }
        object.put("stackTrace", trace);
        if (error.getCause() != null && error.getCause() != error) {
            object.put("cause", describe(error.getCause()));
        }
        return object;
    }

    static final class Fault extends Exception {
        final String kind;

        Fault(String kind, String message) {
            super(message);
            this.kind = kind;
        }
    }

    static final class Answer {
        int status;
        final Map<String, String> headers = new HashMap<>();
        byte[] body;
    }

    // HTTP/1.1 over one kept connection: the server is ours, and always says how long its answers are.
    static final class Client {
        private final String address;
        private final InputStream in;
        private final OutputStream out;

        Client(String address) throws IOException {
            this.address = address;
            int colon = address.lastIndexOf(':');
            Socket socket = new Socket(address.substring(0, colon), Integer.parseInt(address.substring(colon + 1)));
            socket.setTcpNoDelay(true);
            in = new java.io.BufferedInputStream(socket.getInputStream(), 65536);
            out = socket.getOutputStream();
        }

        Answer call(String method, String path, byte[] body, String errorType) throws IOException {
            StringBuilder head = new StringBuilder();
            head.append(method).append(' ').append(API).append(path).append(" HTTP/1.1\r\nHost: ").append(address).append("\r\n");
            if (errorType != null) {
                head.append("Lambda-Runtime-Function-Error-Type: ").append(errorType.replaceAll("[^ -~]", " ")).append("\r\n");
            }
            if (body != null) {
                head.append("Content-Type: application/json\r\nContent-Length: ").append(body.length).append("\r\n");
            }
            head.append("\r\n");
            ByteArrayOutputStream whole = new ByteArrayOutputStream();
            whole.write(head.toString().getBytes(StandardCharsets.ISO_8859_1));
            if (body != null) {
                whole.write(body);
            }
            whole.writeTo(out);
            out.flush();
            Answer answer = new Answer();
            answer.status = Integer.parseInt(line().split(" ", 3)[1]);
            for (String line = line(); !line.isEmpty(); line = line()) {
                int colon = line.indexOf(':');
                answer.headers.put(line.substring(0, colon).toLowerCase(Locale.ROOT), line.substring(colon + 1).trim());
            }
            int length = Integer.parseInt(answer.headers.getOrDefault("content-length", "0"));
            answer.body = in.readNBytes(length);
            if (answer.body.length < length) {
                throw new EOFException("the Runtime API closed the connection");
            }
            return answer;
        }

        private String line() throws IOException {
            ByteArrayOutputStream line = new ByteArrayOutputStream();
            for (int next = in.read(); next != '\n'; next = in.read()) {
                if (next < 0) {
                    throw new EOFException("the Runtime API closed the connection");
                }
                if (next != '\r') {
                    line.write(next);
                }
            }
            return line.toString(StandardCharsets.UTF_8);
        }
    }

    // What there is to know about an event, behind whatever interface of the package asks for it.
    static final class Facts implements InvocationHandler {
        private final Map<String, String> headers;

        Facts(Map<String, String> headers) {
            this.headers = headers;
        }

        @Override
        public Object invoke(Object proxy, Method method, Object[] arguments) {
            switch (method.getName()) {
                case "getAwsRequestId":
                    return headers.get("lambda-runtime-aws-request-id");
                case "getLogGroupName":
                    return System.getenv("AWS_LAMBDA_LOG_GROUP_NAME");
                case "getLogStreamName":
                    return System.getenv("AWS_LAMBDA_LOG_STREAM_NAME");
                case "getFunctionName":
                    return System.getenv("AWS_LAMBDA_FUNCTION_NAME");
                case "getFunctionVersion":
                    return System.getenv("AWS_LAMBDA_FUNCTION_VERSION");
                case "getInvokedFunctionArn":
                    return headers.get("lambda-runtime-invoked-function-arn");
                case "getMemoryLimitInMB":
                    return Integer.parseInt(System.getenv("AWS_LAMBDA_FUNCTION_MEMORY_SIZE"));
                case "getRemainingTimeInMillis": {
                    long deadline = Long.parseLong(headers.getOrDefault("lambda-runtime-deadline-ms", "0"));
                    return (int) Math.max(0, Math.min(Integer.MAX_VALUE, deadline - System.currentTimeMillis()));
                }
                case "getLogger":
                    return Proxy.newProxyInstance(method.getReturnType().getClassLoader(), new Class<?>[] {method.getReturnType()}, new Logger());
                case "getClientContext":
                    return clientContext(method.getReturnType());
                case "getIdentity":
                    return Proxy.newProxyInstance(method.getReturnType().getClassLoader(), new Class<?>[] {method.getReturnType()}, (self, asked, none) -> asked.getReturnType() == String.class && asked.getDeclaringClass() != Object.class ? "" : plain(self, asked, none));
                default:
                    return plain(proxy, method, arguments);
            }
        }

        private Object clientContext(Class<?> type) {
            String text = headers.get("lambda-runtime-client-context");
            if (text == null) {
                return null;
            }
            Object parsed = Json.parse(text.getBytes(StandardCharsets.UTF_8));
            Map<?, ?> context = parsed instanceof Map ? (Map<?, ?>) parsed : Map.of();
            return Proxy.newProxyInstance(type.getClassLoader(), new Class<?>[] {type}, (self, asked, none) -> {
                switch (asked.getName()) {
                    case "getCustom":
                        return Json.convert(context.get("custom"), Map.class);
                    case "getEnvironment":
                        return Json.convert(context.get("env"), Map.class);
                    default:
                        return plain(self, asked, none);
                }
            });
        }
    }

    static final class Logger implements InvocationHandler {
        @Override
        public Object invoke(Object proxy, Method method, Object[] arguments) {
            if (!method.getName().equals("log")) {
                return plain(proxy, method, arguments);
            }
            Object message = arguments[0];
            String text = message instanceof byte[] ? new String((byte[]) message, StandardCharsets.UTF_8) : String.valueOf(message);
            String level = arguments.length > 1 ? String.valueOf(arguments[1]) : "UNDEFINED";
            if (JSON_LOGS) {
                Map<String, Object> line = new LinkedHashMap<>();
                line.put("timestamp", Instant.now().toString());
                line.put("level", level);
                line.put("message", text);
                line.put("AWSRequestId", requestId);
                System.out.println(Json.write(line));
            } else {
                String before = arguments.length > 1 ? "[" + level + "] " : "";
                System.out.println((before + text).stripTrailing().replace('\n', '\r'));
            }
            return null;
        }
    }

    // What every object can be asked, and nothing for what is not known here.
    private static Object plain(Object proxy, Method method, Object[] arguments) {
        switch (method.getName()) {
            case "toString":
                return "hawker." + proxy.getClass().getInterfaces()[0].getSimpleName();
            case "hashCode":
                return System.identityHashCode(proxy);
            case "equals":
                return proxy == arguments[0];
            default: {
                Class<?> type = method.getReturnType();
                return type.isPrimitive() && type != void.class ? Array.get(Array.newInstance(type, 1), 0) : null;
            }
        }
    }

    // A function's handler: `package.Class::method`, or `package.Class` for the interfaces.
    static final class Handler {
        private final Object target;
        private final Method method;
        private final Type input;

        private Handler(Object target, Method method, Type input) {
            this.target = target;
            this.method = method;
            this.input = input;
        }

        static Handler load(String name) throws Exception {
            int colons = name.indexOf("::");
            String className = colons < 0 ? name : name.substring(0, colons);
            String methodName = colons < 0 ? "handleRequest" : name.substring(colons + 2);
            ClassLoader loader = ClassLoader.getSystemClassLoader();
            Class<?> type;
            try {
                type = Class.forName(className, true, loader);
            } catch (ClassNotFoundException error) {
                throw new Fault("java.lang.ClassNotFoundException", "Class not found: " + className);
            }
            Method method = choose(type, methodName);
            if (method == null) {
                throw new Fault("java.lang.NoSuchMethodException", "No public method named " + methodName + " with appropriate method signature found on class " + className);
            }
            Object target = null;
            if (!Modifier.isStatic(method.getModifiers())) {
                try {
                    Constructor<?> constructor = type.getDeclaredConstructor();
                    target = constructor.newInstance();
                } catch (NoSuchMethodException error) {
                    throw new Fault("java.lang.NoSuchMethodException", "Class " + className + " has no public zero-argument constructor");
                }
            }
            method.setAccessible(true);
            Type[] types = method.getGenericParameterTypes();
            Type input = types.length > 0 && !isContext(method.getParameterTypes()[0]) ? types[0] : null;
            return new Handler(target, method, input);
        }

        // The one with the most parameters that can be given, no bridge of a generic interface.
        private static Method choose(Class<?> type, String name) {
            Method best = null;
            for (Method method : type.getMethods()) {
                if (!method.getName().equals(name) || method.isBridge() || method.isSynthetic() || !canBeCalled(method)) {
                    continue;
                }
                if (best == null || method.getParameterCount() > best.getParameterCount()) {
                    best = method;
                }
            }
            return best;
        }

        private static boolean canBeCalled(Method method) {
            Class<?>[] types = method.getParameterTypes();
            if (isStream(method)) {
                return types.length == 2 || isContext(types[2]);
            }
            return types.length <= 1 || types.length == 2 && isContext(types[1]);
        }

        private static boolean isStream(Method method) {
            Class<?>[] types = method.getParameterTypes();
            return (types.length == 2 || types.length == 3) && types[0] == InputStream.class && types[1] == OutputStream.class;
        }

        private static boolean isContext(Class<?> type) {
            return type.getName().equals(PACKAGE + "Context");
        }

        byte[] handle(byte[] event, Facts facts) throws Throwable {
            Class<?>[] types = method.getParameterTypes();
            Object[] arguments = new Object[types.length];
            for (int place = 0; place < types.length; place++) {
                if (isContext(types[place])) {
                    arguments[place] = Proxy.newProxyInstance(types[place].getClassLoader(), new Class<?>[] {types[place]}, facts);
                }
            }
            ByteArrayOutputStream out = null;
            if (isStream(method)) {
                arguments[0] = new ByteArrayInputStream(event);
                arguments[1] = out = new ByteArrayOutputStream();
            } else if (input != null) {
                try {
                    arguments[0] = Json.convert(Json.parse(event), input);
                } catch (RuntimeException error) {
                    throw new Fault("java.lang.RuntimeException", "An error occurred during JSON parsing: " + error.getMessage());
                }
            }
            Object result;
            try {
                result = method.invoke(target, arguments);
            } catch (InvocationTargetException error) {
                throw error.getCause();
            }
            if (out != null) {
                return out.toByteArray();
            }
            return Json.write(result).getBytes(StandardCharsets.UTF_8);
        }
    }

    // JSON, to and from what handlers take and give.
    static final class Json {
        private static final int MAX_DEPTH = 512;

        private final String text;
        private int at;
        private int depth;

        private Json(String text) {
            this.text = text;
        }

        static Object parse(byte[] bytes) {
            Json json = new Json(new String(bytes, StandardCharsets.UTF_8));
            Object value = json.value();
            json.space();
            if (json.at < json.text.length()) {
                throw json.wrong();
            }
            return value;
        }

        private RuntimeException wrong() {
            return new IllegalArgumentException(at < text.length() ? "unexpected character at " + at : "unexpected end");
        }

        private void space() {
            while (at < text.length() && " \t\r\n".indexOf(text.charAt(at)) >= 0) {
                at++;
            }
        }

        private boolean skip(char wanted) {
            space();
            if (at < text.length() && text.charAt(at) == wanted) {
                at++;
                return true;
            }
            return false;
        }

        private void expect(char wanted) {
            if (!skip(wanted)) {
                throw wrong();
            }
        }

        private Object word(String word, Object value) {
            if (!text.startsWith(word, at)) {
                throw wrong();
            }
            at += word.length();
            return value;
        }

        private Object value() {
            space();
            if (at >= text.length()) {
                throw wrong();
            }
            if (++depth > MAX_DEPTH) {
                throw new IllegalArgumentException("nested too deeply");
            }
            try {
                switch (text.charAt(at)) {
                    case '{': {
                        at++;
                        Map<String, Object> map = new LinkedHashMap<>();
                        if (skip('}')) {
                            return map;
                        }
                        do {
                            space();
                            String key = string();
                            expect(':');
                            map.put(key, value());
                        } while (skip(','));
                        expect('}');
                        return map;
                    }
                    case '[': {
                        at++;
                        List<Object> list = new ArrayList<>();
                        if (skip(']')) {
                            return list;
                        }
                        do {
                            list.add(value());
                        } while (skip(','));
                        expect(']');
                        return list;
                    }
                    case '"':
                        return string();
                    case 't':
                        return word("true", Boolean.TRUE);
                    case 'f':
                        return word("false", Boolean.FALSE);
                    case 'n':
                        return word("null", null);
                    default:
                        return number();
                }
            } finally {
                depth--;
            }
        }

        private Object number() {
            int begin = at;
            while (at < text.length() && "+-.eE0123456789".indexOf(text.charAt(at)) >= 0) {
                at++;
            }
            String digits = text.substring(begin, at);
            if (digits.isEmpty()) {
                throw wrong();
            }
            if (digits.indexOf('.') >= 0 || digits.indexOf('e') >= 0 || digits.indexOf('E') >= 0) {
                return Double.valueOf(digits);
            }
            BigInteger number = new BigInteger(digits);
            if (number.bitLength() < 32) {
                return number.intValue();
            }
            return number.bitLength() < 64 ? (Object) number.longValue() : number;
        }

        private String string() {
            if (at >= text.length() || text.charAt(at) != '"') {
                throw wrong();
            }
            StringBuilder out = new StringBuilder();
            for (at++; ; at++) {
                if (at >= text.length()) {
                    throw wrong();
                }
                char next = text.charAt(at);
                if (next == '"') {
                    at++;
                    return out.toString();
                }
                if (next != '\\') {
                    out.append(next);
                    continue;
                }
                at++;
                if (at >= text.length()) {
                    throw wrong();
                }
                char escaped = text.charAt(at);
                int plain = "\"\\/bfnrt".indexOf(escaped);
                if (plain >= 0) {
                    out.append("\"\\/\b\f\n\r\t".charAt(plain));
                } else if (escaped == 'u' && at + 4 < text.length()) {
                    out.append((char) Integer.parseInt(text.substring(at + 1, at + 5), 16));
                    at += 4;
                } else {
                    throw wrong();
                }
            }
        }

        static Object convert(Object value, Type type) {
            if (type instanceof ParameterizedType) {
                ParameterizedType generic = (ParameterizedType) type;
                Class<?> raw = (Class<?>) generic.getRawType();
                Type[] of = generic.getActualTypeArguments();
                if (value == null) {
                    return null;
                }
                if (Map.class.isAssignableFrom(raw)) {
                    Map<Object, Object> map = new LinkedHashMap<>();
                    ((Map<?, ?>) value).forEach((key, each) -> map.put(convert(key, of[0]), convert(each, of[1])));
                    return map;
                }
                if (Collection.class.isAssignableFrom(raw) || raw == Iterable.class) {
                    Collection<Object> all = Set.class.isAssignableFrom(raw) ? new LinkedHashSet<>() : new ArrayList<>();
                    ((List<?>) value).forEach(each -> all.add(convert(each, of[0])));
                    return all;
                }
                if (raw == Optional.class) {
                    return Optional.ofNullable(convert(value, of[0]));
                }
                return toClass(value, raw);
            }
            if (type instanceof WildcardType) {
                return convert(value, ((WildcardType) type).getUpperBounds()[0]);
            }
            return type instanceof Class ? toClass(value, (Class<?>) type) : value;
        }

        @SuppressWarnings({"unchecked", "rawtypes"})
        private static Object toClass(Object value, Class<?> type) {
            if (value == null) {
                return type.isPrimitive() ? Array.get(Array.newInstance(type, 1), 0) : null;
            }
            if (type == Object.class || type.isInstance(value) && !type.isPrimitive()) {
                return value;
            }
            if (type == String.class) {
                return value instanceof Map || value instanceof List ? write(value) : String.valueOf(value);
            }
            if (type == boolean.class || type == Boolean.class) {
                return value instanceof Boolean ? value : Boolean.valueOf(String.valueOf(value));
            }
            if (type.isEnum()) {
                return Enum.valueOf((Class<Enum>) type, String.valueOf(value));
            }
            if (value instanceof Number || value instanceof String && (type.isPrimitive() || Number.class.isAssignableFrom(type))) {
                return toNumber(value, type);
            }
            if (type == byte[].class && value instanceof String) {
                return java.util.Base64.getDecoder().decode((String) value);
            }
            if (type.isArray() && value instanceof List) {
                List<?> list = (List<?>) value;
                Object array = Array.newInstance(type.getComponentType(), list.size());
                for (int place = 0; place < list.size(); place++) {
                    Array.set(array, place, toClass(list.get(place), type.getComponentType()));
                }
                return array;
            }
            if (value instanceof Map) {
                return toBean((Map<?, ?>) value, type);
            }
            throw new IllegalArgumentException("Cannot deserialize value of type `" + type.getName() + "` from " + value.getClass().getSimpleName());
        }

        private static Object toNumber(Object value, Class<?> type) {
            BigDecimal number = new BigDecimal(String.valueOf(value));
            if (type == int.class || type == Integer.class) {
                return number.intValue();
            }
            if (type == long.class || type == Long.class) {
                return number.longValue();
            }
            if (type == double.class || type == Double.class) {
                return number.doubleValue();
            }
            if (type == float.class || type == Float.class) {
                return number.floatValue();
            }
            if (type == short.class || type == Short.class) {
                return number.shortValue();
            }
            if (type == byte.class || type == Byte.class) {
                return number.byteValue();
            }
            if (type == BigInteger.class) {
                return number.toBigInteger();
            }
            if (type == BigDecimal.class || type == Number.class) {
                return number;
            }
            throw new IllegalArgumentException("Cannot deserialize value of type `" + type.getName() + "` from a number");
        }

        // By its setters, or its fields; a record by its constructor.
        private static Object toBean(Map<?, ?> values, Class<?> type) {
            try {
                Field[] fields = type.getDeclaredFields();
                if (type.getSuperclass() != null && type.getSuperclass().getName().equals("java.lang.Record")) {
                    List<Class<?>> types = new ArrayList<>();
                    List<Object> arguments = new ArrayList<>();
                    for (Field field : fields) {
                        if (!Modifier.isStatic(field.getModifiers())) {
                            types.add(field.getType());
                            arguments.add(convert(values.get(field.getName()), field.getGenericType()));
                        }
                    }
                    Constructor<?> constructor = type.getDeclaredConstructor(types.toArray(new Class<?>[0]));
                    constructor.setAccessible(true);
                    return constructor.newInstance(arguments.toArray());
                }
                Constructor<?> constructor = type.getDeclaredConstructor();
                constructor.setAccessible(true);
                Object bean = constructor.newInstance();
                Map<String, Method> setters = new HashMap<>();
                for (Method method : type.getMethods()) {
                    if (method.getName().startsWith("set") && method.getParameterCount() == 1 && !method.isBridge()) {
                        setters.put(method.getName().substring(3).toLowerCase(Locale.ROOT), method);
                    }
                }
                for (Map.Entry<?, ?> entry : values.entrySet()) {
                    String key = String.valueOf(entry.getKey());
                    Method setter = setters.get(key.toLowerCase(Locale.ROOT));
                    if (setter != null) {
                        setter.setAccessible(true);
                        setter.invoke(bean, convert(entry.getValue(), setter.getGenericParameterTypes()[0]));
                        continue;
                    }
                    for (Field field : fields) {
                        if (field.getName().equals(key) && Modifier.isPublic(field.getModifiers()) && !Modifier.isFinal(field.getModifiers())) {
                            field.setAccessible(true);
                            field.set(bean, convert(entry.getValue(), field.getGenericType()));
                        }
                    }
                }
                return bean;
            } catch (ReflectiveOperationException error) {
                throw new IllegalArgumentException("Cannot construct instance of `" + type.getName() + "`: " + error, error);
            }
        }

        static String write(Object value) {
            StringBuilder out = new StringBuilder();
            write(value, out, 0);
            return out.toString();
        }

        private static void write(Object value, StringBuilder out, int depth) {
            if (depth > MAX_DEPTH) {
                throw new IllegalArgumentException("the answer is nested too deeply");
            }
            if (value == null || value instanceof Optional && !((Optional<?>) value).isPresent()) {
                out.append("null");
            } else if (value instanceof Optional) {
                write(((Optional<?>) value).get(), out, depth + 1);
            } else if (value instanceof Double && !Double.isFinite((Double) value) || value instanceof Float && !Float.isFinite((Float) value)) {
                quote(value.toString(), out);
            } else if (value instanceof Number || value instanceof Boolean) {
                out.append(value);
            } else if (value instanceof CharSequence || value instanceof Character || value instanceof Enum || value.getClass().getName().startsWith("java.time.") || value instanceof java.util.UUID) {
                quote(value.toString(), out);
            } else if (value instanceof byte[]) {
                quote(java.util.Base64.getEncoder().encodeToString((byte[]) value), out);
            } else if (value instanceof Map) {
                Map<?, ?> map = (Map<?, ?>) value;
                char before = '{';
                for (Map.Entry<?, ?> entry : map.entrySet()) {
                    out.append(before);
                    quote(String.valueOf(entry.getKey()), out);
                    out.append(':');
                    write(entry.getValue(), out, depth + 1);
                    before = ',';
                }
                out.append(map.isEmpty() ? "{}" : "}");
            } else if (value instanceof Iterable) {
                char before = '[';
                for (Object each : (Iterable<?>) value) {
                    out.append(before);
                    write(each, out, depth + 1);
                    before = ',';
                }
                out.append(before == '[' ? "[]" : "]");
            } else if (value.getClass().isArray()) {
                List<Object> list = new ArrayList<>();
                for (int place = 0; place < Array.getLength(value); place++) {
                    list.add(Array.get(value, place));
                }
                write(list, out, depth);
            } else {
                write(fields(value), out, depth);
            }
        }

        // What an object shows of itself: its getters, the parts of a record, its public fields.
        private static Map<String, Object> fields(Object value) {
            Map<String, Object> fields = new LinkedHashMap<>();
            Class<?> type = value.getClass();
            try {
                boolean record = type.getSuperclass() != null && type.getSuperclass().getName().equals("java.lang.Record");
                for (Field field : type.getDeclaredFields()) {
                    if (!Modifier.isStatic(field.getModifiers()) && (record || Modifier.isPublic(field.getModifiers()))) {
                        field.setAccessible(true);
                        fields.put(field.getName(), field.get(value));
                    }
                }
                for (Method method : type.getMethods()) {
                    String name = method.getName();
                    boolean is = name.startsWith("is") && (method.getReturnType() == boolean.class || method.getReturnType() == Boolean.class);
                    int prefix = is ? 2 : name.startsWith("get") ? 3 : 0;
                    if (prefix == 0 || name.length() == prefix || method.getParameterCount() > 0 || method.isBridge() || method.getDeclaringClass() == Object.class || Modifier.isStatic(method.getModifiers())) {
                        continue;
                    }
                    method.setAccessible(true);
                    String key = Character.toLowerCase(name.charAt(prefix)) + name.substring(prefix + 1);
                    fields.put(key, method.invoke(value));
                }
            } catch (ReflectiveOperationException error) {
                throw new IllegalArgumentException("Cannot serialize `" + type.getName() + "`: " + error, error);
            }
            return fields;
        }

        private static void quote(String text, StringBuilder out) {
            out.append('"');
            for (int place = 0; place < text.length(); place++) {
                char next = text.charAt(place);
                switch (next) {
                    case '"':
                        out.append("\\\"");
                        break;
                    case '\\':
                        out.append("\\\\");
                        break;
                    case '\n':
                        out.append("\\n");
                        break;
                    case '\r':
                        out.append("\\r");
                        break;
                    case '\t':
                        out.append("\\t");
                        break;
                    default:
                        if (next < ' ') {
                            out.append(String.format("\\u%04x", (int) next));
                        } else {
                            out.append(next);
                        }
                }
            }
            out.append('"');
        }
    }

    private Bootstrap() {}
}
