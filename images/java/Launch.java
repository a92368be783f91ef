package assay.hot;

import java.io.IOException;
import java.lang.invoke.MethodHandle;
import java.lang.invoke.MethodHandles;
import java.lang.reflect.Method;
import java.lang.reflect.Modifier;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Comparator;
import java.util.Objects;
import java.util.Optional;
import java.util.stream.Stream;

/**
 * Starts a program whose class with {@code main} is found.
 *
 * The class of the entry file if it has {@code main}, else the first by name that has it, a class of the entry file's name
 * before others. It need not be public, may be in a package, and may inherit {@code main}.
 */
public final class Launch {
    private static final String SUFFIX = ".class";

    private Launch() {
    }

    public static void main(String[] args) throws Throwable {
        String stem = args[0].replaceFirst("^\\./", "").replace('/', '.');
        Method main = main(stem);
        if (main == null) {
            main = search(stem.substring(stem.lastIndexOf('.') + 1)).orElse(null);
        }
        if (main == null) {
            System.err.println("error: no class has a method public static void main(String[])");
            System.exit(1);
        }
        MethodHandle start = MethodHandles.privateLookupIn(main.getDeclaringClass(), MethodHandles.lookup()).unreflect(main);
        String[] rest = Arrays.copyOfRange(args, 1, args.length);
        try {
            start.invokeExact(rest);
        } catch (Throwable thrown) {
            forget(thrown, 0);
            throw thrown;
        }
    }

    private static Method main(String name) {
        try {
            Method found = Class.forName(name, false, Launch.class.getClassLoader()).getMethod("main", String[].class);
            return Modifier.isStatic(found.getModifiers()) && found.getReturnType() == void.class ? found : null;
        } catch (ReflectiveOperationException | LinkageError e) {
            return null;
        }
    }

    private static Optional<Method> search(String stem) throws IOException {
        Path here = Path.of(".");
        try (Stream<Path> files = Files.walk(here)) {
            return files.map(path -> here.relativize(path).toString())
                .filter(name -> name.endsWith(SUFFIX))
                .map(name -> name.substring(0, name.length() - SUFFIX.length()).replace('/', '.'))
                .sorted(Comparator.comparing((String name) -> !name.endsWith("." + stem)).thenComparing(Comparator.naturalOrder()))
                .map(Launch::main)
                .filter(Objects::nonNull)
                .findFirst();
        }
    }

    /** Removes this class, and what calls the program for it, from the program's stack traces. */
    private static void forget(Throwable thrown, int depth) {
        StackTraceElement[] trace = thrown.getStackTrace();
        int kept = trace.length;
        if (kept > 0 && trace[kept - 1].getClassName().equals(Launch.class.getName())) {
            kept -= 1;
            while (kept > 0 && trace[kept - 1].getClassName().startsWith("java.lang.invoke.")) {
                kept -= 1;
            }
            thrown.setStackTrace(Arrays.copyOf(trace, kept));
        }
        if (thrown.getCause() != null && depth < 50) {
            forget(thrown.getCause(), depth + 1);
        }
    }
}
