n = int(input())
total = 0
for _ in range(n):
    for _ in range(int(input())):
        total += 1
print(total)
