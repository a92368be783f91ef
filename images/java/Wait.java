package assay.hot;

import java.io.ByteArrayOutputStream;
import java.io.FileDescriptor;
import java.io.FileInputStream;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.OutputStream;
import java.io.PrintWriter;
import java.lang.instrument.Instrumentation;
import java.lang.reflect.Constructor;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Map;
import java.util.Set;

/**
 * A prewarmed JVM waits here for its program (docs/SPEED.md).
 *
 * As an agent it waits before the launcher loads the main class, which then runs as in a cold start. As a program it is a
 * compiler that has compiled before.
 */
public final class Wait {
    private static final String READY = "/proc/self/fd/1022";
    private static final String ORDER = "/proc/self/fd/1023";

    private Wait() {
    }

    /** Waits for the order; then the launcher goes on. */
    public static void premain(String args, Instrumentation instrumentation) throws IOException {
        try (FileInputStream order = new FileInputStream(ORDER)) {
            for (String name : line(order).split("\0")) {
                if (!name.isEmpty()) {
                    Class.forName(name);
                }
            }
            warmPrinting();
            ready();
            go(order);
            // closes both pipes
            instrumentation.redefineModule(Object.class.getModule(), Set.of(), Map.of(),
                Map.of("java.io", Set.of(Wait.class.getModule())), Set.of(), Map.of());
            for (int fd : new int[] {1022, 1023}) {
                Constructor<FileDescriptor> constructor = FileDescriptor.class.getDeclaredConstructor(int.class);
                constructor.setAccessible(true);
                new FileInputStream(constructor.newInstance(fd)).close();
            }
        } catch (ReflectiveOperationException e) {
            say("load: " + e);
            Runtime.getRuntime().halt(1);
        }
    }

    /** Compiles with the order's arguments, which are javac's. */
    public static void main(String[] args) throws IOException {
        String[] fields;
        try (FileInputStream order = new FileInputStream(ORDER)) {
            line(order);
            warmCompiler();
            ready();
            fields = go(order);
        }
        String[] all = Arrays.copyOf(args, args.length + fields.length);
        System.arraycopy(fields, 0, all, args.length, fields.length);
        System.exit(com.sun.tools.javac.Main.compile(all));
    }

    private static String line(FileInputStream order) throws IOException {
        StringBuilder text = new StringBuilder();
        for (int c = order.read(); c > 0 && c != '\n' || c == 0; c = order.read()) {
            text.append((char) c);
        }
        return text.toString();
    }

    /** Reads the order and returns its arguments; exits if there is no order. */
    private static String[] go(FileInputStream order) throws IOException {
        // readAllBytes would seek to the end of the pipe
        ByteArrayOutputStream bytes = new ByteArrayOutputStream();
        byte[] piece = new byte[65536];
        for (int n = order.read(piece); n > 0; n = order.read(piece)) {
            bytes.write(piece, 0, n);
        }
        String[] fields = bytes.toString(StandardCharsets.UTF_8).split("\0", -1);
        if (!fields[0].equals("go")) {
            Runtime.getRuntime().halt(1);
        }
        return Arrays.copyOfRange(fields, 1, Math.max(1, fields.length - 1));
    }

    private static void ready() throws IOException {
        say("ready");
    }

    private static void say(String message) throws IOException {
        try (FileOutputStream ready = new FileOutputStream(READY)) {
            ready.write(message.getBytes(StandardCharsets.UTF_8));
        }
    }

    /** Loads the classes that most programs use first; leaves no trace. */
    private static void warmPrinting() {
        java.io.PrintStream nowhere = new java.io.PrintStream(OutputStream.nullOutputStream());
        nowhere.println("x" + 1);
        nowhere.printf("%d %s %.2f%n", 1, "x", 1.0);
        new java.util.Scanner("1 2\n").nextInt();
        new java.util.ArrayList<>(java.util.List.of(1, 2)).stream().map(x -> x + 1).sorted().toList();
        new java.util.HashMap<String, Integer>().merge("x", 1, Integer::sum);
    }

    private static void warmCompiler() throws IOException {
        Path folder = Files.createTempDirectory("warm");
        Path source = folder.resolve("Warm.java");
        Files.writeString(source, """
            import java.util.*;
            import java.util.function.*;
            import java.util.stream.*;
            public class Warm {
                interface Shape { double area(); }
                record Circle(double r) implements Shape { public double area() { return Math.PI * r * r; } }
                enum Kind { A, B }
                static <T extends Comparable<T>> T most(List<T> all) { return Collections.max(all); }
                static int fib(int n) { return n < 2 ? n : fib(n - 1) + fib(n - 2); }
                public static void main(String[] args) throws Exception {
                    Scanner in = new Scanner(System.in);
                    Map<String, List<Integer>> map = new TreeMap<>();
                    for (int i = 0; i < 10; i++) map.computeIfAbsent("k" + i % 3, k -> new ArrayList<>()).add(i);
                    System.out.println(map.values().stream().flatMap(List::stream).collect(Collectors.toList()));
                    StringBuilder text = new StringBuilder();
                    while (in.hasNextInt()) text.append(in.nextInt()).append(' ');
                    try { System.out.printf("%s %d%n", text, fib(5)); } catch (RuntimeException e) { throw e; } finally { in.close(); }
                    var kind = Kind.valueOf("A");
                    String s = switch (kind) { case A -> "a"; case B -> "b"; };
                    Function<Integer, Integer> twice = x -> x * 2;
                    System.out.println(s + most(List.of(1, 2)) + new Circle(1).area() + twice.apply(2));
                }
            }
            """);
        PrintWriter nowhere = new PrintWriter(OutputStream.nullOutputStream());
        for (int i = 0; i < 4; i++) {
            com.sun.tools.javac.Main.compile(new String[] {"-d", folder.toString(), source.toString()}, nowhere);
        }
        try (var made = Files.list(folder)) {
            for (Path file : made.toList()) {
                Files.delete(file);
            }
        }
        Files.delete(folder);
    }
}
