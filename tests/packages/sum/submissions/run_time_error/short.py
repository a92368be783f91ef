n = int(input())
numbers = [int(input()) for _ in range(n + 1)]
print(sum(numbers))
