#include <stdio.h>
int main(void) {
    int n, x;
    unsigned sum = 0;
    scanf("%d", &n);
    while (n--) {
        scanf("%d", &x);
        sum += x;
    }
    printf("%d\n", (int)sum);
    return 0;
}
