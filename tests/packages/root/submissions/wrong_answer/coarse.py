print("%.3f" % float(input()) ** 0.5)
