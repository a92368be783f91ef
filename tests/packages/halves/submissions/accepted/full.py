import sys
n = int(input())
if sys.argv[1:] == ["odd", "by request"]:
    n += 1
print("YES" if n % 2 == 0 else "NO")
