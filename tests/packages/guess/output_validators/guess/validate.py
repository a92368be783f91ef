import sys

secret = int(open(sys.argv[1]).read())
most = int(sys.argv[4])


def end(verdict, words):
    with open(sys.argv[3] + "judgemessage.txt", "w") as file:
        file.write(words)
    sys.exit(verdict)


for turn in range(most):
    line = sys.stdin.readline()
    if not line.strip().isdigit():
        end(43, "no number in turn %d: %r" % (turn, line))
    guess = int(line)
    if guess == secret:
        print("correct", flush=True)
        end(42, "%d guesses" % (turn + 1))
    print("lower" if guess > secret else "higher", flush=True)
end(43, "more than %d guesses" % most)
