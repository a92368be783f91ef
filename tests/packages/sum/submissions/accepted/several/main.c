#include <stdio.h>
#include "total.h"
int main(void) {
    int n;
    scanf("%d", &n);
    printf("%lld\n", total(n));
    return 0;
}
