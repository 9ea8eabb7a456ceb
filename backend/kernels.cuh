// What the kernels of kernels.py are made of. T is the type of their numbers.

// NumPy's functions by their names there
#define number (T)
#define inf __longlong_as_double(0x7ff0000000000000LL)
#define nan __longlong_as_double(0x7ff8000000000000LL)
#define add(a, b) ((a) + (b))
#define subtract(a, b) ((a) - (b))
#define multiply(a, b) ((a) * (b))
#define divide(a, b) ((a) / (b))
#define negative(a) (-(a))

#define THREADS 256

// The mean of the array a, for a block of THREADS threads, which share as many sums
template <class T> __device__ T mean(const T* a, long long count, T* sums) {
    T sum = 0;
    for (long long i = threadIdx.x; i < count; i += THREADS) sum += a[i];
    __syncthreads();  // until all have read the mean before this one
    sums[threadIdx.x] = sum;
    for (int width = THREADS / 2; width > 0; width /= 2) {
        __syncthreads();
        if (threadIdx.x < width) sums[threadIdx.x] += sums[threadIdx.x + width];
    }
    __syncthreads();
    return sums[0] / count;
}
